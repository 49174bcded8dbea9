"""Which predictor an adapter is loaded as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..hyperparameters import nearest
from .classifier import Classifier
from .detector import Detector
from .loading import has_fixed_classes, load_adapter, read_config, task_of
from .predictor import Predictor, Settings
from .segmenter import Segmenter


PREDICTORS: Mapping[str, type[Predictor[Any, Any]]] = {
    "image-classification": Classifier,
    "object-detection": Detector,
    "image-segmentation": Segmenter,
}
"""By task."""


def load_predictor(
    adapter: str,
    model: str | None = None,
    class_names: Sequence[str] | None = None,
    template: str | None = None,
    settings: Settings | None = None,
) -> Predictor[Any, Any]:
    """Load an adapter, as what it was trained for.

    Args:
        adapter, model, class_names, template: As for [`load_adapter`].
        settings: What is asked of it.

    Raises:
        FileNotFoundError: There is no adapter.
        ValueError: As of [`load_adapter`]; a setting without meaning; a task that has no predictor.
    """
    task = task_of(read_config(adapter))
    if task not in PREDICTORS:
        raise ValueError(f"{adapter} is for the task {task!r}{nearest(task, PREDICTORS)} Load it in Python.")
    return PREDICTORS[task](load_adapter(adapter, model, class_names, template), settings or Settings())


def load_predictor_for(
    class_names: Sequence[str],
    adapter: str,
    model: str | None = None,
    template: str | None = None,
    settings: Settings | None = None,
) -> Predictor[Any, Any]:
    """Load an adapter that answers with these classes, or, if its own are fixed, with more.

    Args:
        class_names: The classes of a data set.
        adapter, model, template, settings: As for [`load_predictor`].

    Raises:
        ValueError: A class that an adapter with fixed classes does not have.
    """
    config = read_config(adapter)
    if not has_fixed_classes(config) and {*(config.class_names or ())} != {*class_names}:
        return load_predictor(adapter, model, class_names, template, settings)
    predictor = load_predictor(adapter, model, None, template, settings)
    own = predictor.class_names
    if unknown := [name for name in class_names if name not in own]:
        raise ValueError(
            f"The data set has a class {unknown[0]!r}, which {adapter} does not have{nearest(unknown[0], own)} With "
            f"--class_names, name the data set's classes as the adapter does: {', '.join(own)}."
        )
    return predictor
