"""`sharp-prompt evaluate` with adapters that find objects or segment: what the protocols measure."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from inference.dense_adapters import KINDS, NAMES
from peft import PeftModel
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from support.progress import without_progress
from torchmetrics.segmentation import MeanIoU
from tuners.clip_models import make_model

from hf_sharp_prompt.data.segmentation import SegmentationImageProcessor


OWLVIT, CLIPSEG, CLIP = "OwlViTForObjectDetection", "CLIPSegForImageSegmentation", "CLIPModel"
COUNT = 5


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Images with two objects each, as COCO has them and with masks, in the split `test` alone."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for folder in ("coco/annotations", "coco/images", "masks/test/images", "masks/test/masks"):
        (root / folder).mkdir(parents=True)
    images, annotations = [], []
    for index in range(COUNT):
        height, width = 40 + 4 * index, 60
        values = np.zeros((height, width), np.uint8)
        for row in range(2):
            label, (left, top, wide, high) = (index + row) % 3, (2 + 25 * row, 3, 20, 30)
            values[top : top + high, left : left + wide] = label + 1
            box = {"bbox": [left, top, wide, high], "area": wide * high, "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": index, "category_id": 3 * label, **box})
        image = Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8))
        image.save(root / "coco/images" / f"{index}.png")
        image.save(root / "masks/test/images" / f"{index}.png")
        Image.fromarray(values).save(root / "masks/test/masks" / f"{index}.png")
        images.append({"id": index, "file_name": f"{index}.png", "width": width, "height": height})
    categories = [{"id": 3 * label, "name": name} for label, name in enumerate(NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "coco/annotations/instances_test.json").write_text(json.dumps(content))
    (root / "masks/classes.txt").write_text("\n".join(["background", *NAMES]))
    return root


def test_precision_is_that_of_pycocotools_on_the_models_own_boxes(saved, pictures, run):
    words = ["--dataset", pictures / "coco", "--format", "json", "--batch_size", 2]
    code, printed, said = run("evaluate", saved(OWLVIT).adapter, *words)
    assert code == 0, said
    measured = json.loads(printed)
    model = PeftModel.from_pretrained(make_model(OWLVIT), saved(OWLVIT).adapter).eval()
    truth, found = COCO(str(pictures / "coco/annotations/instances_test.json")), []
    for index, each in truth.imgs.items():
        image = Image.open(pictures / "coco/images" / each["file_name"])
        with torch.no_grad():
            outputs = model(**KINDS[OWLVIT]()(images=image, return_tensors="pt"))
        x, y, w, h = (outputs.pred_boxes[0] * torch.tensor([*image.size, *image.size])).unbind(1)
        for place, label in np.ndindex(9, 3):
            box = [float(v[place]) for v in (x - w / 2, y - h / 2, w, h)]
            score = float(outputs.logits[0, place, label].sigmoid())
            found.append({"image_id": index, "category_id": 3 * label, "bbox": box, "score": score})
    evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert [measured[name] for name in ("map", "map50", "map75")] == pytest.approx(
        list(evaluation.stats[:3]), abs=1e-6
    )
    assert (measured["images"], measured["objects"], measured["split"]) == (COUNT, 2 * COUNT, "test")
    assert list(measured["per_class_ap"]) == NAMES


@pytest.mark.parametrize("name", [CLIPSEG, CLIP])
def test_intersections_are_those_of_torchmetrics(name, saved, pictures, run):
    """A model that cannot answer background is not measured on it."""
    code, printed, said = run("evaluate", saved(name).adapter, "--dataset", pictures / "masks", "--format", "json")
    assert code == 0, said
    measured = json.loads(printed)
    model = PeftModel.from_pretrained(make_model(name), saved(name).adapter).eval()
    processor = SegmentationImageProcessor(KINDS[name](), background=name == CLIPSEG)
    predicted, true = [], []
    for index in range(COUNT):
        values = np.asarray(Image.open(pictures / "masks/test/masks" / f"{index}.png")).astype(int)
        with torch.no_grad():
            outputs = model(**processor(pictures / "masks/test/images" / f"{index}.png"))
        (labels,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[values.shape])
        counted = torch.tensor(values > 0) | (name == CLIPSEG)
        predicted.append(labels[counted])
        true.append(torch.tensor((values - 1) % 4)[counted])
    metric = MeanIoU(num_classes=4, per_class=True, input_format="index")
    expected = metric(torch.cat(predicted)[None], torch.cat(true)[None])[:3].tolist()
    found = [measured["per_class_iou"][each] for each in NAMES]
    assert found == pytest.approx(expected, abs=1e-3)
    assert measured["mean_iou"] == pytest.approx(np.mean(expected), abs=1e-3)
    accuracy = (torch.cat(predicted) == torch.cat(true)).double().mean()
    assert measured["pixel_accuracy"] == pytest.approx(float(accuracy), abs=1e-3)
    assert (measured["background_iou"] is None) == (name == CLIP)


def test_tables_are_for_people(saved, pictures, run):
    _, objects, _ = run("evaluate", saved(OWLVIT).adapter, "--dataset", pictures / "coco")
    _, pixels, _ = run("evaluate", saved(CLIP).adapter, "--dataset", pictures / "masks")
    assert all(f" {row} " in objects for row in (*NAMES, "mAP", "mAP50", "mAP75"))
    assert all(f" {row} " in pixels for row in (*NAMES, "background", "mIoU", "pixel accuracy"))


def test_a_data_set_of_other_classes_is_asked_for_its_own(saved, pictures, run, tmp_path):
    (tmp_path / "names.txt").write_text("background\na cat\na dog\na cow\n")
    words = ["--dataset", pictures / "masks", "--class_names", tmp_path / "names.txt", "--format", "json"]
    code, printed, said = run("evaluate", saved(CLIPSEG).adapter, *words)
    assert code == 0, said
    assert list(json.loads(printed)["per_class_iou"]) == ["a cat", "a dog", "a cow"]


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        (
            OWLVIT,
            ["--dataset", "coco", "--label_column", "x"],
            "--label_column is not for data of this adapter",
        ),
        (OWLVIT, ["--dataset", "coco", "--split", "train"], "has no train split; it has test. Name one with --split."),
        (OWLVIT, ["--dataset", "coco", "--image_size", "96"], "--image_size is not for an adapter that finds objects"),
        (OWLVIT, ["--dataset", "coco", "--box_format", "xyxy"], "read them with box_format='xywh'"),
        (
            CLIPSEG,
            ["--dataset", "masks", "--box_format", "xyxy"],
            "--box_format is not for data of this adapter",
        ),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(name, words, message, saved, pictures, run):
    words[1:2] = [pictures / words[1]]
    code, printed, said = run("evaluate", saved(name).adapter, *words)
    assert (code, printed) == (2, "")
    assert message in said
    assert len(without_progress(said).splitlines()) == 1
