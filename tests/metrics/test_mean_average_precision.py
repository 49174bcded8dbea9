"""COCO's mean average precision: a case computed by hand, and pycocotools' own flow from files."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hf_sharp_prompt import metrics


def compute(predictions, references, num_classes):
    return metrics.load("mean_average_precision").compute(
        predictions=predictions, references=references, num_classes=num_classes
    )


def test_a_case_by_hand():
    """Category 0 has three objects, and detections, by score: right, wrong, right at IoU 0.6.

    At IoU 0.5 and 0.55 and 0.6 the third is right. Precision and recall are then (1, 1/3), (1/2, 1/3), (2/3, 2/3): at
    recalls 0 … 0.33 (34 of 101) the precision is 1, at 0.34 … 0.66 (33) it is 2/3, beyond (34) 0. From 0.65 on only
    the first is right: 34 of 101 recalls have precision 1.

    Category 1 has one object that is found at IoU 0.8: right at the thresholds 0.5 … 0.8, seven of ten. Category 2
    has none, so that it does not count, and its detection costs nothing.
    """
    references = [
        {"boxes": [[0, 0, 10, 10], [50, 50, 10, 10]], "labels": [0, 0], "crowds": [0, 0]},
        {"boxes": [[20, 20, 10, 10], [0, 0, 10, 10]], "labels": [0, 1], "crowds": [0, 0]},
    ]
    predictions = [
        {"boxes": [[0, 0, 10, 10], [80, 80, 10, 10], [70, 0, 5, 5]], "scores": [0.9, 0.8, 0.7], "labels": [0, 0, 2]},
        {"boxes": [[20, 20, 10, 6], [0, 0, 10, 8]], "scores": [0.6, 0.9], "labels": [0, 1]},
    ]
    results = compute(predictions, references, 3)
    low, high = (34 + 33 * 2 / 3) / 101, 34 / 101
    assert results["map50"] == pytest.approx((low + 1) / 2, abs=1e-9)
    assert results["map75"] == pytest.approx((high + 1) / 2, abs=1e-9)
    assert results["per_class_ap"][:2] == pytest.approx([(3 * low + 7 * high) / 10, 0.7], abs=1e-9)
    assert np.isnan(results["per_class_ap"][2])
    assert results["map"] == pytest.approx(np.mean(results["per_class_ap"][:2]), abs=1e-9)


def test_a_crowd_is_no_object_and_forgives_detections():
    """Otherwise a detector would be punished for finding the people of a crowd."""
    references = [{"boxes": [[0, 0, 10, 10], [20, 20, 40, 40]], "labels": [0, 0], "crowds": [0, 1]}]
    predictions = [{"boxes": [[25, 25, 5, 5], [0, 0, 10, 10]], "scores": [0.9, 0.5], "labels": [0, 0]}]
    assert compute(predictions, references, 1)["map"] == pytest.approx(1)
    assert compute(predictions, [{**references[0], "crowds": [0, 0]}], 1)["map"] < 0.5


def test_it_is_what_pycocotools_says_of_files(tmp_path):
    rng, size = np.random.default_rng(0), 100

    def boxes(count):
        corner = rng.uniform(0, 60, (count, 2))
        return np.concatenate([corner, rng.uniform(5, 40, (count, 2))], axis=1)

    references, predictions, truth, found = [], [], [], []
    for image in range(12):
        real, labels = boxes(4), rng.integers(0, 3, 4)
        guesses = np.concatenate([real + rng.normal(0, 2, real.shape), boxes(5)])
        guessed, scores = np.concatenate([labels, rng.integers(0, 3, 5)]), rng.uniform(size=9)
        references.append({"boxes": real / size, "labels": labels, "crowds": [0] * 4})
        predictions.append({"boxes": guesses / size, "labels": guessed, "scores": scores})
        for box, label in zip(real, labels, strict=True):
            shared = {"image_id": image + 1, "category_id": int(label) + 7, "bbox": box.tolist()}
            truth.append({**shared, "id": len(truth) + 1, "area": float(box[2] * box[3]), "iscrowd": 0})
        for box, label, score in zip(guesses, guessed, scores, strict=True):
            shared = {"image_id": image + 1, "category_id": int(label) + 7, "bbox": box.tolist()}
            found.append({**shared, "score": float(score)})
    (tmp_path / "truth.json").write_text(
        json.dumps(
            {
                "images": [{"id": image + 1} for image in range(12)],
                "annotations": truth,
                "categories": [{"id": label + 7, "name": str(label)} for label in range(3)],
            }
        )
    )
    (tmp_path / "found.json").write_text(json.dumps(found))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "found.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    results = metrics.load("mean_average_precision")._compute(predictions, references, 3)
    assert [results["map"], results["map50"], results["map75"]] == pytest.approx(evaluation.stats[:3], abs=1e-6)
    assert 0.05 < results["map"] < 0.95, "the case says something"


def test_nothing_found_and_nothing_to_find():
    nothing = {"boxes": [], "scores": [], "labels": []}
    truth = {"boxes": [[0, 0, 1, 1]], "labels": [0], "crowds": [0]}
    assert compute([nothing], [truth], 2)["map"] == 0
    assert np.isnan(compute([nothing], [{"boxes": [], "labels": [], "crowds": []}], 2)["map"])


def test_a_label_beyond_the_categories_is_refused():
    found = {"boxes": [[0, 0, 1, 1]], "scores": [1.0], "labels": [2]}
    with pytest.raises(ValueError, match="not one of the 2 classes"):
        compute([found], [{"boxes": [], "labels": [], "crowds": []}], 2)
