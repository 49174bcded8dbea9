from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image

from ..catalogue import CatalogueEntry
from .image_files import absolute, check_file, facts_of_folder, read_lines
from .layout import Facts, Layout


SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html"
"""Where both versions can be downloaded."""

PIXELS = 3 * 32 * 32
"""Bytes of an image: red, then green, then blue, each row by row."""

HEADER = b"P6 32 32 255\n"
"""The header of a PPM file. The pixels follow it, three bytes each."""


class CIFAR100(Layout):
    """CIFAR-100 as its authors distribute it: `cifar-100-binary/`, `cifar-100-python/`, or the folder around them.

    Images are in the order of the files; `subsample` needs this order to draw the very images of CIFAR100-LT. The
    files of the Python version are pickles. The reader here knows only lists, texts and arrays of bytes, and calls
    nothing that a file names.
    """

    description = "CIFAR-100 in its binary or Python version"

    def recognises(self, source: str) -> bool:
        return _find(Path(source).expanduser()) is not None

    def read(self, entry: CatalogueEntry) -> DatasetDict:
        root, binary = _locate(entry.source)
        names = _read_names(root, binary, entry.source)
        features = Features({"image": Image(), "label": ClassLabel(names=names)})
        splits = {}
        for split in ("train", "test"):
            pixels, labels = (_read_binary if binary else _read_pickle)(root, split, entry.source)
            images = pixels.reshape(-1, 3, 32 * 32).transpose(0, 2, 1).reshape(-1, PIXELS)
            files = [{"bytes": HEADER + image.tobytes(), "path": None} for image in images]
            splits[split] = Dataset.from_dict({"image": files, "label": labels}, features=features)
        return DatasetDict(splits)

    def facts(self, entry: CatalogueEntry) -> Facts:
        return facts_of_folder("cifar-100", _read_names(*_locate(entry.source), entry.source))


def _find(path: Path) -> tuple[Path, bool] | None:
    """Find the folder of the files, and tell whether they are the binary ones, which are preferred."""
    for folder, train, binary in (("cifar-100-binary", "train.bin", True), ("cifar-100-python", "train", False)):
        for root in (path / folder, path):
            if (root / train).is_file() and (binary or (root / "meta").is_file()):
                return root, binary
    return None


def _locate(source: str) -> tuple[Path, bool]:
    path = absolute(source)
    found = _find(path)
    if found is None:
        raise ValueError(f"{source} is not CIFAR-100: cifar-100-binary/train.bin was looked for in {path}.")
    return found


def _read_names(root: Path, binary: bool, source: str) -> list[str]:
    if binary:
        lines = read_lines(root / "fine_label_names.txt", source, f"It is in the archive at {SOURCE}.")
        return [line.strip() for line in lines]
    return [_text(name) for name in _unpickle(root / "meta", source)["fine_label_names"]]


def _read_binary(root: Path, split: str, source: str) -> tuple[np.ndarray, list[int]]:
    """Read images of which each is its coarse label, its fine label and its pixels."""
    path = root / f"{split}.bin"
    check_file(path, source, f"It is in the archive at {SOURCE}.")
    content = np.fromfile(path, dtype=np.uint8)
    if content.size == 0 or content.size % (2 + PIXELS):
        raise ValueError(
            f"{path} has {content.size} bytes, no multiple of the {2 + PIXELS} of an image; download {SOURCE} again."
        )
    rows = content.reshape(-1, 2 + PIXELS)
    return rows[:, 2:], rows[:, 1].tolist()


def _read_pickle(root: Path, split: str, source: str) -> tuple[np.ndarray, list[int]]:
    content = _unpickle(root / split, source)
    pixels, labels = content.get("data"), content.get("fine_labels")
    pixels = pixels.array() if isinstance(pixels, _ArrayOfBytes) else None
    if pixels is None or not isinstance(labels, list) or pixels.shape != (len(labels), PIXELS):
        raise ValueError(f"{root / split} has no data and fine_labels of CIFAR-100; download {SOURCE} again.")
    return pixels, [int(label) for label in labels]


def _unpickle(path: Path, source: str) -> dict[str, Any]:
    check_file(path, source, f"It is in the archive at {SOURCE}.")
    with path.open("rb") as file:
        try:
            content = _Reader(file, encoding="bytes").load()
        except (pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path} is no file of CIFAR-100 ({error}); download {SOURCE} again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no file of CIFAR-100 (it holds no dictionary); download {SOURCE} again.")
    return {_text(key): value for key, value in content.items()}


def _text(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


class _ArrayOfBytes:
    """What NumPy writes of an array of bytes, kept as it is."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, _, self.content = state

    def array(self) -> np.ndarray | None:
        """Return the array; None if it is not of bytes."""
        is_bytes = isinstance(self.dtype, _DataType) and self.dtype.code in ("u1", b"u1")
        return np.frombuffer(self.content, dtype=np.uint8).reshape(self.shape) if is_bytes else None


class _DataType:
    """What NumPy writes of the type of an array's numbers."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None: ...


class _Reader(pickle.Unpickler):
    """Reads pickles of dictionaries, lists, texts and arrays of bytes; it never calls what a file names."""

    KNOWN = {
        **{(f"numpy.{core}.multiarray", "_reconstruct"): lambda *_: _ArrayOfBytes() for core in ("core", "_core")},
        ("numpy", "ndarray"): _ArrayOfBytes,
        ("numpy", "dtype"): _DataType,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.KNOWN:
            return self.KNOWN[module, name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which such files do not")
