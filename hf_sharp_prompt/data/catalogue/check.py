"""Compare entries of the catalogue with the cards of data sets on the Hub, and with folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from .. import layouts
from .entry import CatalogueEntry


class CardReader(Protocol):
    """What is asked of `huggingface_hub.HfApi`."""

    def dataset_info(self, repo_id: str, *, revision: str | None = None) -> Any: ...


def check_on_hub(entry: CatalogueEntry, api: CardReader) -> list[str]:
    """Compare an entry with the card of its data set on the Hub. No data are downloaded.

    Args:
        entry: An entry whose source is a Hub id.
        api: A `huggingface_hub.HfApi`.

    Returns:
        What is wrong or could not be seen, a sentence each; none if all is as the entry says.
    """
    try:
        info = api.dataset_info(entry.source, revision=entry.revision)
    except RevisionNotFoundError:
        return [f"{entry.source} has no revision {entry.revision}."]
    except GatedRepoError:
        return [f"{entry.source} is shown only to those who have agreed to its terms."]
    except RepositoryNotFoundError:
        return [f"There is no data set {entry.source} on the Hub."]
    except Exception as error:  # those of the client's HTTP library, which differs between its versions
        return [f"The Hub could not be asked ({type(error).__name__}: {' '.join(str(error).split())})."]
    card = _find_configuration(info.card_data or {}, entry.config)
    if card is None:
        return [f"The card of {entry.source} does not describe columns and splits."]
    return [*_compare_columns(entry, card), *_compare_splits(entry, card)]


def _find_configuration(card: Any, name: str | None) -> Mapping[str, Any] | None:
    """Find the description of the configuration that is loaded: the named one, or the only one."""
    described = card.get("dataset_info")
    configurations = described if isinstance(described, list) else [described]
    for each in configurations:
        if isinstance(each, Mapping) and (len(configurations) == 1 or each.get("config_name", "default") == name):
            return each
    return None


def _compare_columns(entry: CatalogueEntry, card: Mapping[str, Any]) -> Iterator[str]:
    columns = {each.get("name"): each for each in card.get("features", ()) if isinstance(each, Mapping)}
    for column in (entry.image_column, entry.label_column):
        if column is not None and column not in columns:
            yield f"There is no column {column!r}; there are {', '.join(map(str, columns))}."
    if entry.label_column in columns and (names := _class_names(columns[entry.label_column])):
        named = entry.class_names if isinstance(entry.class_names, Mapping) else {}
        if unknown := [name for name in [*named, *entry.left_out] if name not in names]:
            yield f"There is no class {unknown[0]!r}."
        used = len([name for name in names if name not in entry.left_out])
        if entry.num_classes not in (None, used):
            yield f"There are {used} classes, not {entry.num_classes}."


def _class_names(column: Mapping[str, Any]) -> list[str]:
    kind = column.get("dtype")
    names = kind.get("class_label", {}).get("names", {}) if isinstance(kind, Mapping) else {}
    return [str(name) for name in (names.values() if isinstance(names, Mapping) else names)]


def _compare_splits(entry: CatalogueEntry, card: Mapping[str, Any]) -> Iterator[str]:
    sizes = {each.get("name"): each.get("num_examples") for each in card.get("splits", ())}
    for split in dict.fromkeys([*entry.splits.values(), *entry.sizes]):
        if split not in sizes:
            yield f"There is no split {split!r}; there are {', '.join(map(str, sizes))}."
        elif sizes[split] != entry.sizes.get(split, sizes[split]):
            yield f"The {split} split has {sizes[split]} images, not {entry.sizes[split]}."


def check_in_folder(entry: CatalogueEntry, data_root: str | Path) -> list[str]:
    """Compare the folder of a data set with what the papers report: sizes of splits and the number of classes.

    Args:
        entry: An entry with `folders`.
        data_root: The folder that has the data set's.

    Returns:
        What is wrong, a sentence each; none if all is as the entry says.
    """
    try:
        below = entry.below(data_root)
        splits = layouts.find(below.source).read(below)
    except ValueError as error:
        return [str(error)]
    found = {name: len(split) for name, split in splits.items()}
    wrong = [
        f"The {split} split has {found.get(split, 0)} images, not {size}."
        for split, size in entry.folder_sizes.items()
        if found.get(split, 0) != size
    ]
    classes = splits[next(iter(splits))].features["label"].num_classes
    if entry.num_classes not in (None, classes):
        wrong.append(f"There are {classes} classes, not {entry.num_classes}.")
    return wrong
