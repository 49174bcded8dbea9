"""Read the names of classes from a file."""

from __future__ import annotations

import json
import re
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
