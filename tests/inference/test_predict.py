"""`sharp-prompt predict`: image files in, classes out."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from inference.conftest import NAMES
from peft import PeftModel
from PIL import Image
from support.progress import progress_in, without_progress
from transformers import AutoModel, AutoProcessor

from hf_sharp_prompt import demo
from hf_sharp_prompt.inference.image_files import find_image_files


@pytest.fixture
def photos(folder, tmp_path) -> Path:
    """Two images in folders, one with a name that is awkward to print, and two files that are no images."""
    (tmp_path / "photos" / "more").mkdir(parents=True)
    images = sorted((folder / "test" / "black_heart").iterdir())
    shutil.copy(images[0], tmp_path / "photos" / 'b, "c"\n\x1b[31m.png')
    shutil.copy(images[1], tmp_path / "photos" / "more" / "a.png")
    (tmp_path / "photos" / "broken.jpg").write_text("no image")
    (tmp_path / "photos" / "notes.txt").write_text("no image, and not called one")
    return tmp_path / "photos"


def test_each_line_is_an_object_and_nothing_else_is_printed(photos, trained, run):
    """A program reads them while they are made; messages and progress would break it."""
    code, printed, said = run("predict", trained, photos, "--top", 2, "--format", "jsonl")
    assert code == 1, "an image could not be read"
    objects = [json.loads(line) for line in printed.splitlines()]
    assert [Path(each["image"]).name for each in objects] == ['b, "c"\n\x1b[31m.png', "a.png"]
    for each in objects:
        scores = [prediction["score"] for prediction in each["predictions"]]
        assert len(scores) == 2
        assert scores == sorted(scores, reverse=True)
        assert {prediction["label"] for prediction in each["predictions"]} <= {*NAMES}
    assert without_progress(said).startswith(f"The image {photos / 'broken.jpg'} cannot be decoded")
    assert progress_in(said)[0] == {"stage": "starting"}


def test_scores_are_what_the_model_says(folder, trained, run):
    paths = sorted((folder / "test").glob("*/*.png"))
    code, printed, _ = run("predict", trained, folder / "test", "--format", "jsonl", "--batch_size", 4)
    assert code == 0
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(demo.CLIP_PATH), trained).eval()
    processor = AutoProcessor.from_pretrained(demo.CLIP_PATH)
    pixels = processor(images=[Image.open(path) for path in paths], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = model(pixel_values=pixels).logits.softmax(-1)
    objects = [json.loads(line) for line in printed.splitlines()]
    assert [each["image"] for each in objects] == list(map(str, paths))
    scores = [{each["label"]: each["score"] for each in of_image["predictions"]} for of_image in objects]
    found = torch.tensor([[of_image[name] for name in NAMES] for of_image in scores])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_csv_is_read_back(photos, trained, run):
    _, printed, _ = run("predict", trained, photos, "--format", "csv", "--top", 1)
    header, *rows = csv.reader(io.StringIO(printed))
    assert header == ["image", "rank", "label", "score"]
    assert [Path(row[0]).name for row in rows] == [r'b, "c"\n\x1b[31m.png', "a.png"]
    assert all(0 <= float(score) <= 1 and rank == "1" and label in NAMES for _, rank, label, score in rows)


def test_a_table_has_a_line_for_each_image(photos, trained, run):
    _, printed, _ = run("predict", trained, photos, "--top", 5)
    assert len(printed.splitlines()) == 2
    assert all(line.count("%") == 3 for line in printed.splitlines()), "there are only three classes"
    assert "\x1b" not in printed


@pytest.mark.parametrize("as_file", [False, True])
def test_other_classes_are_named(as_file, folder, trained, run, tmp_path):
    (tmp_path / "names.txt").write_text("ring\n\na star\nheart\n")
    names = [tmp_path / "names.txt"] if as_file else ["ring", "a star", "heart"]
    words = ["--class_names", *names, "--template", "a drawing of a {}.", "--format", "jsonl"]
    code, printed, _ = run("predict", trained, folder / "test" / "black_cross" / "0.png", *words)
    assert code == 0
    assert {each["label"] for each in json.loads(printed)["predictions"]} == {"ring", "a star", "heart"}


def test_a_head_answers_with_its_own_classes(folder, trained_vit, run):
    code, printed, _ = run("predict", trained_vit, folder / "test", "--format", "jsonl")
    assert code == 0
    assert {each["label"] for each in json.loads(printed.splitlines()[0])["predictions"]} == {*NAMES}
    code, _, said = run("predict", trained_vit, folder / "test", "--class_names", "ring", "star")
    assert code == 2
    assert "The adapter has a head for 3 classes, and no others can be asked for; drop --class_names." in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ADAPTER", "EMPTY"], "There are no images in "),
        (["ADAPTER", "EMPTY/*.png"], "There are no images in "),
        (["ADAPTER", "nowhere.png"], "There is no file or folder nowhere.png"),
        (["ADAPTER", "IMAGE", "--top", "0"], "Argument --top: it must be a whole number of at least 1, got '0'"),
        (["ADAPTER", "IMAGE", "--class_names", "names.txt"], "--class_names names.txt is no file, and one name is"),
        (["ADAPTER", "IMAGE", "--class_names", "one", "one"], "Class names must differ"),
        (["ADAPTER", "IMAGE", "--template", "no place"], "template must contain {} exactly once"),
        (["ADAPTER", "IMAGE", "--model", "EMPTY"], "cannot be loaded; name its directory or Hub id with --model."),
        (["EMPTY", "IMAGE"], "There is no adapter in "),
        (["ABOVE", "IMAGE"], "There are adapters in "),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(words, message, folder, trained, run, tmp_path):
    (tmp_path / "empty").mkdir()
    image = folder / "test" / "black_heart" / "0.png"
    places = {"ADAPTER": trained, "ABOVE": trained.parent, "IMAGE": image, "EMPTY": tmp_path / "empty"}
    words = [str(places[word]) if word in places else word.replace("EMPTY", str(tmp_path)) for word in words]
    code, printed, said = run("predict", *words)
    assert (code, printed) == (2, "")
    assert message in said
    assert len(without_progress(said).splitlines()) == 1


def test_an_adapter_of_another_method_is_refused(folder, run, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "base"}')
    code, _, said = run("predict", tmp_path, folder)
    assert code == 2
    assert "is an adapter of type LORA, not of prompts (CLIP_PROMPT, VIT_PROMPT)." in said


def test_files_come_in_a_stable_order_and_once(tmp_path):
    """Folder by folder and sorted; what a system hides is no image of the user's."""
    for name in ("b.png", "a.JPG", "._a.JPG", ".cache/x.png", "sub/c.webp", "[1].png", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_image_files([str(tmp_path / "b.png"), str(tmp_path), str(tmp_path / "*.png")])
    assert [str(Path(path).relative_to(tmp_path)) for path in found] == ["b.png", "[1].png", "a.JPG", "sub/c.webp"]
    assert find_image_files([str(tmp_path / "[1].png")]) == [str(tmp_path / "[1].png")]
