"""Image features in a file: recognised by what they were made from, read as needed, written whole or not at all.

The file is a safetensors file (https://huggingface.co/docs/safetensors) of `labels` and `image_features`, with
`made_from` and `class_names` as JSON in its metadata. It is written batch by batch, since all features together may
not fit into memory; `safetensors.torch.save_file` would need them there.
"""

from __future__ import annotations

import json
import logging
import math
import os
import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open


logger = logging.getLogger(__name__)

DTYPES = {torch.float16: "F16", torch.float32: "F32"}
"""What features are kept as, and what safetensors calls it."""


def holds(path: Path, made_from: dict[str, str]) -> bool:
    """Whether a file is whole and has the features made from just this; what is wrong with it is logged."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, "pt") as file:  # compares the sizes in its header with the file's
            metadata = file.metadata() or {}
    except SafetensorError as error:
        logger.warning(f"{path} is torn or no file of features ({error}); the images are encoded anew.")
        return False
    held = json.loads(metadata.get("made_from", "{}"))
    if stale := sorted(name for name in made_from if held.get(name) != made_from[name]):
        logger.warning(f"{path} was made from another {', '.join(stale)}; the images are encoded anew.")
    return not stale


def read(path: Path) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Features, labels and class names; the tensors are mapped into memory and read where they are accessed."""
    with safe_open(path, "pt") as file:
        return (
            file.get_tensor("image_features"),
            file.get_tensor("labels"),
            json.loads(file.metadata()["class_names"]),
        )


def write(
    path: Path,
    batches: Iterator[torch.Tensor],
    labels: torch.Tensor,
    class_names: Sequence[str],
    made_from: dict[str, str],
) -> None:
    """Write features that come in batches of images × views × width.

    They are written aside and renamed, so that a kill leaves no half of a file under `path`.
    """
    unfinished = path.with_suffix(".unfinished")
    metadata = {"made_from": json.dumps(made_from), "class_names": json.dumps(list(class_names))}
    try:
        with unfinished.open("wb") as file:
            first = next(batches)
            file.write(_header(labels, (len(labels), *first.shape[1:]), first.dtype, metadata))
            file.write(labels.numpy())
            for batch in chain([first], batches):
                file.write(batch.numpy())
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _header(labels: torch.Tensor, shape: Sequence[int], dtype: torch.dtype, metadata: dict[str, str]) -> bytes:
    end = labels.nbytes + math.prod(shape) * dtype.itemsize
    header = {
        "__metadata__": metadata,
        "labels": {"dtype": "I64", "shape": list(labels.shape), "data_offsets": [0, labels.nbytes]},
        "image_features": {"dtype": DTYPES[dtype], "shape": list(shape), "data_offsets": [labels.nbytes, end]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors are aligned
    return struct.pack("<Q", len(text)) + text
