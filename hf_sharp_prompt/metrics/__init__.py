"""The field's metrics as `evaluate` modules, one folder each, loaded without a network."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import Value
from transformers import EvalPrediction

from ..hyperparameters import nearest
from .segmentation import count_pixels_of_logits, segmentation_scores


if TYPE_CHECKING:
    import evaluate


__all__ = ["PATH", "compute", "count_pixels_of_logits", "load", "names", "segmentation_scores"]

PATH = Path(__file__).parent  # evaluate.load(str(PATH / "shot_groups")) is what `load` does


def names() -> list[str]:
    """The metrics that `load` knows."""
    return sorted(script.stem for script in PATH.glob("*/*.py"))


def load(name: str) -> evaluate.EvaluationModule:
    """Load a metric, as `evaluate.load` loads one from the Hub.

    Args:
        name: One of `names()`.

    Returns:
        A module with `compute`, `add_batch` and the rest of `evaluate`'s interface; its `inputs_description` says
        what it takes and returns.

    Raises:
        ValueError: There is no such metric; the message names the nearest.

    Example:
        >>> from hf_sharp_prompt import metrics
        >>> metrics.load("per_class_accuracy").compute(predictions=[0, 1, 1], references=[0, 1, 0])["accuracy"]
        0.6666666666666666
    """
    if name not in names():
        raise ValueError(f"There is no metric {name!r}{nearest(name, names())} Known are: {', '.join(names())}.")
    import evaluate  # It takes half a second, for SciPy, which whoever measures nothing saves.

    # In memory, because processes that evaluate at once would wait for each other's lock on evaluate's cache file.
    return evaluate.load(str(PATH / name), keep_in_memory=True)


@cache
def _loaded(name: str) -> evaluate.EvaluationModule:
    """The module that `compute` asks, which remembers nothing between two calls."""
    return load(name)


def compute(name: str, prediction: EvalPrediction, **options: Any) -> dict[str, float]:
    """Compute a metric from a classifier's logits and labels, as `Trainer` gives them to `compute_metrics`.

    Args:
        name: One of `names()`.
        prediction: Logits (samples × classes) and labels. The metric gets their argmax or softmax, whichever
            it is defined for.
        **options: What else the metric's `compute` takes.

    Returns:
        The metric's numbers; lists, which a Trainer cannot log, are left out.

    Example:
        >>> import numpy as np
        >>> from functools import partial
        >>> from hf_sharp_prompt import metrics
        >>> from transformers import EvalPrediction
        >>> compute_metrics = partial(metrics.compute, "shot_groups", train_counts=[500, 50, 5])
        >>> compute_metrics(EvalPrediction(predictions=np.eye(3), label_ids=np.array([0, 1, 1])))
        {'overall': 0.6666666666666666, 'many': 1.0, 'medium': 0.5, 'few': nan}
    """
    metric = _loaded(name)
    if metric.features["predictions"] == Value("int64"):
        predictions = np.argmax(np.asarray(prediction.predictions), axis=-1)
    else:
        predictions = torch.as_tensor(prediction.predictions).double().softmax(-1).numpy()
    # Not metric.compute: it takes every single probability through Arrow and Python, in ten times the time.
    results = metric._compute(predictions=predictions, references=prediction.label_ids, **options)
    return {key: value for key, value in results.items() if isinstance(value, float)}
