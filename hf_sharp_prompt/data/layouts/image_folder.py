from __future__ import annotations

from functools import partial
from pathlib import Path

from datasets import Dataset, DatasetDict, load_dataset

from ..catalogue import CatalogueEntry
from .class_folders import walk_images
from .layout import Layout, load


METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Files that `datasets` reads columns from, in the folder or in that of a split."""


class ImageFolder(Layout):
    """A folder of images whose labels are in a metadata file, or whose images are in ZIP archives.

    `datasets` describes it: https://huggingface.co/docs/datasets/image_dataset#imagefolder
    """

    description = "a folder of images with a metadata.csv, metadata.jsonl or metadata.parquet, or of ZIP archives"

    def recognises(self, source: str) -> bool:
        path = Path(source).expanduser()
        if any(next(path.glob(f"{depth}{name}"), None) for name in METADATA for depth in ("", "*/")):
            return True
        has_archives = any(next(path.glob(pattern), None) for pattern in ("*.zip", "*/*.zip"))
        return has_archives and next(walk_images(path), None) is None

    def read(self, entry: CatalogueEntry) -> Dataset | DatasetDict:
        path = str(Path(entry.source).expanduser())
        return load(partial(load_dataset, "imagefolder", data_dir=path), f"{entry.source} is no folder of images")
