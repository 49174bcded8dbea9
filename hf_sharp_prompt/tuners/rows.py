"""An adapter for each row of a batch: the rows of each adapter go through the model together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers.utils import ModelOutput

from .class_loss import IGNORED


def answer_by_rows(
    answer: Callable[..., ModelOutput], adapter_names: Sequence[str], inputs: dict[str, Any]
) -> ModelOutput:
    """Return what a model answers to a batch whose rows ask for different adapters.

    Args:
        answer: Called with an adapter's name and inputs; returns the outputs, whose tensors are batch × …
        adapter_names: For each row the adapter that answers it.
        inputs: The inputs of the whole batch. Tensors with as many rows as there are names are split; the rest goes
            to every adapter.

    Returns:
        The outputs in the order of the rows; a loss is the mean over the rows that have a label.

    Raises:
        ValueError: Outputs of the adapters that do not fit together, such as logits of different classes.
    """
    groups = {name: [i for i, each in enumerate(adapter_names) if each == name] for name in adapter_names}
    outputs, weights = [], []
    for name, rows in groups.items():
        group = {key: _rows_of(value, rows, len(adapter_names)) for key, value in inputs.items()}
        outputs.append(answer(name, **group))
        weights.append(_number_labelled(group.get("labels")))
    order = torch.tensor([row for rows in groups.values() for row in rows]).argsort()
    losses = [each.pop("loss", None) for each in map(dict, outputs)]
    combined = _combine([dict(each) | {"loss": None} for each in outputs], order, list(groups))
    if losses[0] is not None:
        # With `num_items_in_batch` each loss is its share of the batch's loss already.
        total = sum(weights) if inputs.get("num_items_in_batch") is None else None
        shares = [loss if total is None else loss * weight / total for loss, weight in zip(losses, weights) if weight]
        combined["loss"] = sum(shares) if shares else losses[0]
    return type(outputs[0])(**combined)


def _rows_of(value: Any, rows: list[int], batch: int) -> Any:
    has_all_rows = isinstance(value, torch.Tensor) and value.dim() > 0 and len(value) == batch
    return value[torch.tensor(rows, device=value.device)] if has_all_rows else value


def _number_labelled(labels: torch.Tensor | None) -> int:
    if labels is None:
        return 0
    return len(labels) if labels.is_floating_point() else int((labels != IGNORED).sum())


def _combine(values: list[Any], order: torch.Tensor, names: list[str]) -> Any:
    first = values[0]
    if isinstance(first, dict):
        return {key: _combine([each.get(key) for each in values], order, names) for key in first}
    if isinstance(first, tuple):
        return tuple(_combine(list(each), order, names) for each in zip(*values, strict=True))
    if not isinstance(first, torch.Tensor):
        return first
    if any(each is None or each.shape[1:] != first.shape[1:] for each in values):
        widths = ", ".join(f"{name!r}: {_width(each)}" for name, each in zip(names, values))
        raise ValueError(
            f"The adapters of adapter_names answer with outputs of different widths ({widths}), which do not fit in "
            "one batch; ask them one after the other: model.classify(..., adapter=name)."
        )
    return torch.cat(values)[order.to(first.device)]


def _width(value: torch.Tensor | None) -> str:
    return "none" if value is None else " × ".join(map(str, value.shape[1:]))
