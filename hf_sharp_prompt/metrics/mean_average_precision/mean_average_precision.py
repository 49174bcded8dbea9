"""COCO's mean average precision of detected objects."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import evaluate
import numpy as np
from datasets import List, Value

from hf_sharp_prompt.metrics.classification import check_labels, make_info


_DESCRIPTION = """\
COCO's mean average precision: for each category the area under the precision-recall curve, in which a detection is
right if its box overlaps with that of an object of the category, which no detection of a higher score has; then the
mean over categories, and over ten thresholds of that overlap (IoU) from 0.5 to 0.95. pycocotools computes it, over
objects of all sizes and the 100 best detections of each image and category.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (dict, one per image): `boxes` (n × 4: left, top, width, height, in any unit that those of the
        references have), `scores` (n) and `labels` (n).
    references (dict, one per image): `boxes` (m × 4), `labels` (m) and, optionally, `crowds` (m): boxes of crowds are
        no objects to be found, and detections in them do not count as wrong.
    num_classes (int): How many categories there are.

Returns:
    map (float): The mean average precision, in [0, 1].
    map50, map75 (float): At an overlap of 0.5 and of 0.75 alone.
    per_class_ap (list of float, one per category): Over all thresholds; nan for a category without objects, which has
        no part in the means.

Examples:
    >>> from hf_sharp_prompt import metrics
    >>> mean_average_precision = metrics.load("mean_average_precision")
    >>> found = {"boxes": [[0, 0, 10, 10]], "scores": [0.9], "labels": [1]}
    >>> truth = {"boxes": [[0, 0, 10, 8]], "labels": [1], "crowds": [0]}
    >>> results = mean_average_precision.compute(predictions=[found], references=[truth], num_classes=2)
    >>> {name: round(results[name], 3) for name in ("map", "map50", "map75")}
    {'map': 0.7, 'map50': 1.0, 'map75': 1.0}
"""

_CITATION = """\
@inproceedings{lin2014coco,
  title = {Microsoft {COCO}: Common Objects in Context},
  author = {Lin, Tsung-Yi and Maire, Michael and Belongie, Serge and Hays, James and Perona, Pietro and Ramanan, Deva
    and Doll{\\'a}r, Piotr and Zitnick, C. Lawrence},
  booktitle = {European Conference on Computer Vision},
  year = {2014},
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class MeanAveragePrecision(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        boxes = {"boxes": List(List(Value("float64"))), "labels": List(Value("int64"))}
        return make_info(
            _DESCRIPTION,
            _KWARGS_DESCRIPTION,
            _CITATION,
            ["https://cocodataset.org/#detection-eval", "https://github.com/ppwwyyxx/cocoapi"],
            None,
            predictions={**boxes, "scores": List(Value("float64"))},
            references={**boxes, "crowds": List(Value("int64"))},
        )

    def _compute(
        self,
        predictions: Sequence[Mapping[str, Any]],
        references: Sequence[Mapping[str, Any]],
        num_classes: int,
    ) -> dict[str, float | list[float]]:
        for name, images in (("predictions", predictions), ("references", references)):
            labels = np.array([label for each in images for label in each["labels"]], dtype=np.int64)
            check_labels(f"{name}' labels", labels, num_classes, "correct it or num_classes")
        precision = _precision(_found(predictions), _sought(references), len(references), num_classes)
        per_class = _mean(precision, axis=(0, 1))
        return {
            "map": float(_mean(precision)),
            "map50": float(_mean(precision[0])),
            "map75": float(_mean(precision[5])),
            "per_class_ap": per_class.tolist(),
        }


def _precision(
    found: list[dict[str, Any]], sought: list[dict[str, Any]], num_images: int, num_classes: int
) -> np.ndarray:
    """Return the precision at ten overlaps × 101 recalls × categories; -1 for categories without objects."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ImportError(
            'The mean average precision needs pycocotools; install it with pip install "hf-sharp-prompt[dense]".'
        ) from error
    images = [{"id": image} for image in range(num_images)]
    categories = [{"id": label} for label in range(num_classes)]
    truth, results = COCO(), COCO()
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints how far it is.
        for data, annotations in ((truth, sought), (results, found)):
            data.dataset = {"images": images, "categories": categories, "annotations": annotations}
            data.createIndex()
        evaluation = COCOeval(truth, results, "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    accumulated: Any = evaluation.eval
    return accumulated["precision"][:, :, :, 0, 0]


def _found(predictions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return all detections, as pycocotools takes them."""
    scores = [float(score) for each in predictions for score in each["scores"]]
    boxes = _annotations(predictions)
    return [{**box, "score": score} for box, score in zip(boxes, scores, strict=True)]


def _sought(references: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return all objects, as pycocotools takes them."""
    crowds = [crowd for each in references for crowd in each.get("crowds", [0] * len(each["labels"]))]
    boxes = _annotations(references)
    return [{**box, "iscrowd": int(crowd)} for box, crowd in zip(boxes, crowds, strict=True)]


def _annotations(images: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = []
    for image, each in enumerate(images):
        for box, label in zip(each["boxes"], each["labels"], strict=True):
            # Ids start at 1: pycocotools takes 0 for "matched with nothing".
            shared = {"id": len(annotations) + 1, "image_id": image, "category_id": int(label)}
            annotations.append({**shared, "bbox": [float(value) for value in box], "area": float(box[2] * box[3])})
    return annotations


def _mean(precision: np.ndarray, axis: tuple[int, ...] | None = None) -> np.ndarray:
    """Return the mean over what is defined; nan where nothing is."""
    return np.ma.filled(np.ma.masked_less(precision, 0).mean(axis=axis), np.nan)
