"""Image features in a file that is recognised by its sources and read as needed.

The file is a safetensors file (https://huggingface.co/docs/safetensors) of `labels` and `image_features`, with
`made_from` and `class_names` as JSON and a `checksum` of the tensors in its metadata.
"""

from __future__ import annotations

import json
import logging
import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import xxhash
from safetensors import SafetensorError, safe_open


logger = logging.getLogger(__name__)

DTYPES = {torch.float16: "F16", torch.float32: "F32"}
"""The data types of features in files → their names in safetensors."""


@dataclass(frozen=True)
class Contents:
    """What a file of features must have.

    Args:
        made_from: Name of a source, such as `encoder` → its fingerprint.
        labels: The label of each image.
        class_names: The names of the classes.
        views: The features of each image.
        dtype: The data type of the features, one of `DTYPES`.
    """

    made_from: dict[str, str]
    labels: torch.Tensor
    class_names: Sequence[str]
    views: int
    dtype: torch.dtype


def holds(path: Path, contents: Contents) -> bool:
    """Tell whether a file has the very features that were made from these sources; what is wrong with it is logged.

    The file is read once for its checksum, 4 GB in a second where it is in the page cache.
    """
    if not path.is_file():
        return False
    try:
        problem = _find_problem(path, contents)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        problem = f"is incomplete or not a feature file ({error})"
    if problem is not None:
        logger.warning(f"{path} {problem}; the images are encoded again.")
    return problem is None


def _find_problem(path: Path, contents: Contents) -> str | None:
    with safe_open(path, "pt") as file:  # compares the sizes in its header with the file's
        metadata = file.metadata() or {}
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (it cannot be iterated over)
        tensors = {name: (each.get_dtype(), each.get_shape()) for name, each in slices.items()}
    made_from = dict(json.loads(metadata.get("made_from", "{}")))
    if stale := sorted(name for name, source in contents.made_from.items() if made_from.get(name) != source):
        return f"was made from another {', '.join(stale)}"
    count, width = len(contents.labels), tensors.get("image_features", ("", []))[1][2:]
    expected = {
        "labels": ("I64", [count]),
        "image_features": (DTYPES[contents.dtype], [count, contents.views, *width]),
    }
    if tensors != expected or json.loads(metadata.get("class_names", "[]")) != list(contents.class_names):
        return "has tensors or class names that do not fit the data"
    if _checksum(path) != metadata.get("checksum") or not torch.equal(read(path)[1], contents.labels):
        return "was changed after it had been written"
    return None


def _checksum(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        file.seek(size, os.SEEK_CUR)
        for block in iter(partial(file.read, 2**22), b""):
            digest.update(block)
    return digest.hexdigest()


def read(path: Path) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Features, labels and class names; the tensors are mapped into memory and read where they are accessed."""
    with safe_open(path, "pt") as file:
        return (
            file.get_tensor("image_features"),
            file.get_tensor("labels"),
            json.loads(file.metadata()["class_names"]),
        )


def header_of(contents: Contents, width: Sequence[int], checksum: str) -> bytes:
    """Return what stands in a file in front of its tensors: `labels`, then `image_features`.

    Args:
        contents: What the file holds.
        width: The shape of one view's features.
        checksum: That of the tensors, 32 hexadecimal digits.
    """
    labels, dtype = contents.labels, contents.dtype
    shape = [len(labels), contents.views, *width]
    metadata = {
        "made_from": json.dumps(contents.made_from),
        "class_names": json.dumps(list(contents.class_names)),
        "checksum": checksum,
    }
    end = labels.nbytes + math.prod(shape) * dtype.itemsize
    header = {
        "__metadata__": metadata,
        "labels": {"dtype": "I64", "shape": list(labels.shape), "data_offsets": [0, labels.nbytes]},
        "image_features": {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": [labels.nbytes, end]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors are aligned
    return struct.pack("<Q", len(text)) + text
