from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from datasets import Dataset, DatasetDict, IterableDatasetDict, load_dataset, load_dataset_builder
from datasets.exceptions import DatasetNotFoundError

from ...demo import TASKS
from ...hyperparameters import nearest
from .. import catalogue
from ..catalogue import CatalogueEntry
from .layout import Facts, Layout, T, load


GATED, NOT_LOGGED_IN = "is a gated dataset", "must be authenticated"
"""What `datasets` says of data that need an access, and of a request without a token."""


class Hub(Layout):
    """A data set on the Hugging Face Hub, by its id. Every name that is no path of this machine is taken as one."""

    description = "the id of a data set on the Hub"

    def recognises(self, source: str) -> bool:
        return not Path(source).expanduser().exists()

    def read(self, entry: CatalogueEntry) -> Dataset | DatasetDict:
        return _load(partial(load_dataset, *_address(entry), revision=entry.revision), entry)

    def stream(self, entry: CatalogueEntry) -> IterableDatasetDict:
        read = partial(load_dataset, *_address(entry), revision=entry.revision, streaming=True)
        return _load(read, entry)

    def facts(self, entry: CatalogueEntry) -> Facts:
        builder = _load(partial(load_dataset_builder, *_address(entry), revision=entry.revision), entry)
        return Facts.from_info(builder.info)


def _address(entry: CatalogueEntry) -> tuple[str, str | None]:
    return entry.source.rstrip("/"), entry.config


def _load(read: Callable[[], T], entry: CatalogueEntry) -> T:
    try:
        return load(read, _problem(entry))
    except ValueError as error:
        # The message is all that `datasets` keeps of the Hub's refusal.
        refusal = str(error.__cause__) if isinstance(error.__cause__, DatasetNotFoundError) else ""
        if GATED not in refusal:
            raise
        remedy = (
            "log in with `hf auth login` or set HF_TOKEN"
            if NOT_LOGGED_IN in refusal
            else "wait until access is granted to the account of your token"
        )
        raise ValueError(
            f"{entry.source} is a gated data set on the Hub: accept its terms on "
            f"https://huggingface.co/datasets/{entry.source}, and {remedy}."
        ) from error


def _problem(entry: CatalogueEntry) -> str:
    # Any word may be meant for a folder or an id, so that a name is only suggested for what is nearly its spelling.
    name = entry.source.rstrip("/").rpartition("/")[2]
    suggestion = nearest(name, [*TASKS, *catalogue.names()], likeness=0.75).removesuffix(".")
    place = f"; as a path it was looked for at {os.path.abspath(Path(entry.source).expanduser())}"
    return f"There is no file, folder, demo task or data set on the Hub {entry.source!r}{suggestion}{place}"
