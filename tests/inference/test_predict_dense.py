"""`sharp-prompt predict` with adapters that find objects or segment: boxes, shares of pixels, and pictures."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from inference.dense_adapters import KINDS, NAMES
from peft import PeftModel
from PIL import Image
from support.progress import without_progress
from tuners.clip_models import make_model

from hf_sharp_prompt.data.segmentation import SegmentationImageProcessor, read_mask
from hf_sharp_prompt.inference.pictures import names_of_pictures


DETECTORS = ["OwlViTForObjectDetection", "Owlv2ForObjectDetection"]
SEGMENTERS = ["CLIPSegForImageSegmentation", "CLIPModel"]


@pytest.fixture
def photos(tmp_path) -> Path:
    """Three images of different shapes, two of them of one name, and one that is stored on its side."""
    rng = np.random.default_rng(0)
    for name, size in (("a/x.png", (60, 90)), ("b/x.png", (70, 40)), ("turned.jpg", (50, 80))):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8))
        exif = Image.Exif()
        if name == "turned.jpg":
            exif[0x0112] = 6
        image.save(path, exif=exif)
    return tmp_path / "photos"


def stock_detections(name: str, saved, image: Image.Image, threshold: float) -> list[tuple[str, float, list[float]]]:
    """What transformers' own processor and forward say, with the prompts active."""
    processor = KINDS[name]()
    model = PeftModel.from_pretrained(make_model(name), saved.adapter).eval()
    inputs = processor(text=[[f"{each}." for each in NAMES]], images=image, return_tensors="pt")
    with torch.no_grad():
        outputs = model.get_base_model()(**inputs)
    (found,) = processor.post_process_grounded_object_detection(
        outputs, threshold=threshold, target_sizes=[(image.height, image.width)], text_labels=[NAMES]
    )
    triples = zip(found["text_labels"], found["scores"].tolist(), found["boxes"].tolist(), strict=True)
    return sorted(triples, key=lambda each: -each[1])


@pytest.mark.parametrize("name", DETECTORS)
def test_scores_and_boxes_are_those_of_transformers(name, saved, photos, run):
    """OWLv2 pads images to squares: its boxes are shares of the longer side."""
    code, printed, said = run("predict", saved(name).adapter, photos, "--format", "jsonl", "--threshold", "0.3")
    assert code == 0, said
    answers = [json.loads(line) for line in printed.splitlines()]
    assert len(answers) == 3
    assert any(answer["predictions"] for answer in answers)
    for answer in answers:
        image = Image.open(answer["image"]).convert("RGB")
        if answer["image"].endswith("turned.jpg"):
            image = image.transpose(Image.Transpose.ROTATE_270)
        expected = stock_detections(name, saved(name), image, 0.3)
        assert [each["label"] for each in answer["predictions"]] == [label for label, _, _ in expected]
        for each, (_, score, box) in zip(answer["predictions"], expected, strict=True):
            assert each["score"] == pytest.approx(score, abs=1e-5)
            assert each["box"] == pytest.approx(box, abs=1e-3)


def test_overlaps_are_dropped_and_the_best_are_named(saved, photos, run):
    adapter = saved(DETECTORS[0]).adapter
    counts = {}
    for words in ([], ["--nms", "0.1"], ["--top", "1"], ["--threshold", "1"]):
        _, printed, _ = run("predict", adapter, photos, "--threshold", "0", *words, "--format", "csv")
        header, *rows = csv.reader(io.StringIO(printed))
        counts[tuple(words[:1])] = len(rows)
    assert header == ["image", "rank", "label", "score", "xmin", "ymin", "xmax", "ymax"]
    assert counts[()] == 3 * 9, "every patch has a box"
    assert 3 <= counts["--nms",] < counts[()]
    assert counts["--top",] == 3
    assert counts["--threshold",] == 0
    _, printed, _ = run("predict", adapter, photos, "--threshold", "1")
    assert all(line.endswith("nothing") for line in printed.splitlines())


@pytest.mark.parametrize("name", SEGMENTERS)
def test_pixels_are_those_of_the_model(name, saved, photos, run, tmp_path):
    """The label map is at the image's own size, and its values are named in a file as data sets have it."""
    out = tmp_path / "out"
    words = ["--output_dir", out, "--format", "jsonl", "--batch_size", 1]  # so that no rounding differs
    code, printed, said = run("predict", saved(name).adapter, photos, *words)
    assert code == 0, said
    answers = [json.loads(line) for line in printed.splitlines()]
    background = ["background"] if name == SEGMENTERS[0] else []
    names = (out / "classes.txt").read_text().splitlines()
    assert names == [*background, *NAMES]
    model = PeftModel.from_pretrained(make_model(name), saved(name).adapter).eval()
    processor = SegmentationImageProcessor(KINDS[name](), background=bool(background))
    for answer, file in zip(answers, ("turned", "a_x", "b_x"), strict=True):
        values = read_mask(out / f"{file}_labels.png")
        assert sum(each["share"] for each in answer["predictions"]) == pytest.approx(1)
        shares = {each["label"]: each["share"] for each in answer["predictions"]}
        assert shares == {
            label: (values == value).mean() for value, label in enumerate(names) if (values == value).any()
        }
        with torch.no_grad():
            outputs = model(**processor(answer["image"]))
        (expected,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[values.shape])
        shifted = (values - 1) % (len(NAMES) + 1) if background else values
        assert (expected.numpy() == shifted).all()
        assert Image.open(out / f"{file}.png").format == "PNG"
    assert {path.name for path in out.iterdir()} == {
        "classes.txt",
        *(f"{file}{ending}.png" for file in ("turned", "a_x", "b_x") for ending in ("", "_labels")),
    }


def test_pixels_below_the_threshold_are_background(saved, photos, run):
    shares = []
    for threshold in (0, 0.5, 0.9, 1):
        words = ["--threshold", threshold, "--format", "jsonl"]
        _, printed, _ = run("predict", saved(SEGMENTERS[0]).adapter, photos / "a", *words)
        found = json.loads(printed)["predictions"]
        shares.append(sum(each["share"] for each in found if each["label"] == "background"))
    assert shares == sorted(shares)
    assert shares[1] < shares[2]


def test_boxes_are_drawn_for_every_image(saved, photos, run, tmp_path):
    (photos / "broken.png").write_text("no image")
    words = ["--output_dir", tmp_path / "out", "--threshold", "0.3", "--class_names", "a cat", "a dog"]
    code, _, said = run("predict", saved(DETECTORS[1]).adapter, photos, *words)
    assert code == 1
    assert "broken.png" in said
    pictures = {path.name: Image.open(path) for path in (tmp_path / "out").iterdir()}
    assert pictures.keys() == {"turned.png", "a_x.png", "b_x.png"}
    assert pictures["turned.png"].width < pictures["turned.png"].height, "it is upright"
    assert pictures["a_x.png"].size == (360, 240), "small images are enlarged by a whole number"
    drawn, image = np.asarray(pictures["a_x.png"]), Image.open(photos / "a/x.png").resize((360, 240), 0)
    assert (drawn != np.asarray(image)).any()


def test_classes_and_templates_of_the_command_are_asked_for(saved, photos, run):
    adapter = saved(SEGMENTERS[1]).adapter
    words = ["--class_names", "sky", "grass", "--template", "a view of {}", "--image_size", "96", "--format", "csv"]
    code, printed, said = run("predict", adapter, photos, *words)
    assert code == 0, said
    header, *rows = csv.reader(io.StringIO(printed))
    assert header == ["image", "rank", "label", "share"]
    assert {row[2] for row in rows} <= {"sky", "grass"}


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        (SEGMENTERS[0], ["--nms", "0.5"], "--nms is not for an adapter that segments images; drop it."),
        (DETECTORS[0], ["--image_size", "96"], "--image_size is not for an adapter that finds objects; drop it."),
        (SEGMENTERS[1], ["--threshold", "0.5"], "but CLIPModel gives every pixel one of the classes; drop it."),
        (DETECTORS[0], ["--threshold", "2"], "Argument --threshold: it must be a number from 0 to 1, got '2'"),
        (DETECTORS[0], ["--output_dir", "PHOTOS/a"], "has images to predict"),
        (DETECTORS[0], ["--output_dir", "PHOTOS/turned.jpg"], "cannot be made"),
        (DETECTORS[0], ["--model", "OTHER"], "is done by owlvit, owlv2."),
    ],
)
def test_what_has_no_meaning_is_said_in_a_sentence(name, words, message, saved, photos, run):
    places = {"PHOTOS": str(photos), "OTHER": str(saved("CLIPModel").base)}
    for place, path in places.items():
        words = [word.replace(place, path) for word in words]
    code, printed, said = run("predict", saved(name).adapter, photos, *words)
    assert (code, printed) == (2, "")
    assert message in said
    assert len(without_progress(said).splitlines()) == 1


def test_a_classifier_draws_nothing(trained, folder, run):
    code, _, said = run("predict", trained, folder / "test", "--output_dir", "out")
    assert code == 2
    assert "--output_dir is not for an adapter that classifies images; drop it." in said


def test_names_of_pictures_are_safe_and_differ():
    paths = ["/p/a/x.png", "/p/b/x.png", "/p/b/X.jpg", "/p/b/x_labels.png", "/p/.h\n?.png", f"/p/{'l' * 300}.png"]
    names = names_of_pictures(paths)
    assert names["/p/a/x.png"] == "a_x"
    assert len({name.lower() for name in names.values()}) == len(paths)
    files = [f"{name}{ending}".lower() for name in names.values() for ending in ("", "_labels")]
    assert len({*files}) == len(files), "no label map takes another image's name"
    for name in names.values():
        assert len(name) <= 110
        assert name[0] != "."
        assert not {*"/\n?"} & {*name}
