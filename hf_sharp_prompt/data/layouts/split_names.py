"""Which split of a data set a folder or file is, by the words of its name."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path

from datasets.data_files import SPLIT_KEYWORDS

from ..labels import shortened


logger = logging.getLogger(__name__)

SPLIT_OF_WORD = {word: str(split) for split, words in SPLIT_KEYWORDS.items() for word in words}
"""Word of a name → split, as `datasets` reads them: val, valid, dev and validation are one."""


def named_splits(name: str) -> list[str]:
    """The splits that the words of a name say, sorted: of `val2017` and `my-valid_set` it is `validation`."""
    words = re.split(r"[-._ 0-9]+", name.lower())
    return sorted({SPLIT_OF_WORD[word] for word in words if word in SPLIT_OF_WORD})


def files_by_split(files: Iterable[Path], source: str) -> dict[str, list[Path]]:
    """Sort files by the splits that their names say.

    Args:
        files: The files of a folder.
        source: The data set, for messages.

    Returns:
        Split → its files, sorted. If no name says a split, all are for training; else those without one are left out,
        and a warning counts them.

    Raises:
        ValueError: A name says several splits.
    """
    ordered = sorted(files)
    splits_of = {path: named_splits(path.stem) for path in ordered}
    if not any(splits_of.values()):
        return {"train": ordered}
    for path, splits in splits_of.items():
        if len(splits) > 1:
            raise ValueError(
                f"The file {path.name} of {source} may be the {' or the '.join(splits)} split; rename it to one of "
                "them."
            )
    if others := [path.name for path, splits in splits_of.items() if not splits]:
        logger.warning(f"{len(others)} files of {source} are in no split and are left out: {shortened(others)}.")
    found: dict[str, list[Path]] = {}
    for path, splits in splits_of.items():
        for split in splits:
            found.setdefault(split, []).append(path)
    return {split: found[split] for split in map(str, SPLIT_KEYWORDS) if split in found}
