from __future__ import annotations

from functools import partial
from pathlib import Path

from datasets import Dataset, DatasetDict, load_dataset, load_dataset_builder

from ...demo import TASKS
from ...hyperparameters import nearest
from .. import catalogue
from ..catalogue import CatalogueEntry
from .layout import Facts, Layout, load


class Hub(Layout):
    """A data set on the Hugging Face Hub, by its id. Every name that is no path of this machine is taken as one."""

    description = "the id of a data set on the Hub"

    def recognises(self, source: str) -> bool:
        return not Path(source).expanduser().exists()

    def read(self, entry: CatalogueEntry) -> Dataset | DatasetDict:
        return load(partial(load_dataset, *_address(entry), revision=entry.revision), _problem(entry))

    def facts(self, entry: CatalogueEntry) -> Facts:
        builder = load(partial(load_dataset_builder, *_address(entry), revision=entry.revision), _problem(entry))
        return Facts.from_info(builder.info)


def _address(entry: CatalogueEntry) -> tuple[str, str | None]:
    return entry.source.rstrip("/"), entry.config


def _problem(entry: CatalogueEntry) -> str:
    suggestion = nearest(entry.source, [*TASKS, *catalogue.names()]).removesuffix(".")
    return f"There is no file, folder, demo task or data set on the Hub {entry.source!r}{suggestion}"
