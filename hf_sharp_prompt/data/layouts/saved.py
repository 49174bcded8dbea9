from __future__ import annotations

from functools import partial
from pathlib import Path

from datasets import Dataset, DatasetDict, load_from_disk

from ..catalogue import CatalogueEntry
from .layout import Facts, Layout, load


class Saved(Layout):
    """A folder that `save_to_disk` of `datasets` wrote, with splits or without."""

    description = "a data set saved with save_to_disk"

    def recognises(self, source: str) -> bool:
        path = Path(source).expanduser()
        return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()

    def read(self, entry: CatalogueEntry) -> Dataset | DatasetDict:
        path = str(Path(entry.source).expanduser())
        return load(partial(load_from_disk, path), f"{entry.source} is no data set that save_to_disk saved")

    def facts(self, entry: CatalogueEntry) -> Facts:
        data = self.read(entry)  # maps the files into memory and reads none of their rows
        splits = data if isinstance(data, DatasetDict) else {"train": data}
        return Facts.from_info(splits[next(iter(splits))].info)
