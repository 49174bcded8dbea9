"""Read the names of classes from a file, or from words of a command line."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any


CODE_AND_NAME = re.compile(r"(n\d{8})[\s,:]+(\S.*)")
"""A line of ImageNet's lists: a WordNet id, and the name."""


def read_class_names(path: str | Path) -> list[str] | dict[str, str]:
    """Read the names of classes from a file.

    Args:
        path: A text file with one name on each line, in the order of the labels; a text file with a WordNet id and a
            name on each line, as CoOp's `classnames.txt` for ImageNet; or a JSON file with a list of names, or with an
            object from the data set's names or numbers to names.

    Returns:
        The names by label, or the data set's name → name.

    Raises:
        ValueError: There is no such file; it is no text; JSON of another form.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(
            f"There is no file of class names {path}; it was looked for at {file.absolute()}. Give a text file with "
            "one name on each line, or a JSON file with a list or an object."
        )
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error}); save it in UTF-8.") from error
    return _read_json(text, file) if file.suffix.lower() == ".json" else _read_lines(text)


def names_or_file(words: Sequence[str] | None) -> list[str] | dict[str, str] | None:
    """Return the names of classes that `--class_names` means.

    Args:
        words: The names, or one file for [`read_class_names`].

    Returns:
        As `read_class_names` does; None without words.

    Raises:
        ValueError: One word that is no file; as of `read_class_names`.
    """
    if words is None or len(words) > 1:
        return None if words is None else list(words)
    if not Path(words[0]).expanduser().is_file():
        raise ValueError(
            f"--class_names {words[0]} is no file, and one name is too few; give a file with a name on each line, or "
            "two or more names."
        )
    return read_class_names(words[0])


def list_names(words: Sequence[str] | None) -> list[str] | None:
    """Return the names of classes that `--class_names` means where there are no labels that they have to fit.

    Args:
        words: As for [`names_or_file`]; or one name, which a detector may be asked for.

    Returns:
        The names, without those of empty lines; None without words.
    """
    if words is not None and len(words) == 1 and not _looks_like_a_file(words[0]):
        return list(words)
    names = names_or_file(words)
    if names is None:
        return None
    return [name for name in (names.values() if isinstance(names, dict) else names) if name]


def _looks_like_a_file(word: str) -> bool:
    path = Path(word).expanduser()
    return path.is_file() or len(path.parts) > 1 or path.suffix.lower() in (".txt", ".json", ".csv")


def _read_lines(text: str) -> list[str] | dict[str, str]:
    lines = [line.strip() for line in text.rstrip().splitlines()]
    pairs = [CODE_AND_NAME.fullmatch(line) for line in lines]
    named = {pair[1]: pair[2] for pair in pairs if pair is not None}
    return named if len(named) == len(lines) and lines else lines


def _read_json(text: str, file: Path) -> list[str] | dict[str, str]:
    try:
        names: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON: {error}.") from error
    values = names.values() if isinstance(names, dict) else names
    if not isinstance(names, dict | list) or not all(isinstance(name, str) for name in values):
        raise ValueError(f"{file} must hold a list of names, or an object from the data set's names to names.")
    return names
