"""Take out of a folder that is to be pushed what is private: tokens, and paths of this machine."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from transformers.trainer import TRAINING_ARGS_NAME

from .history import CARD_NAME


HOLDS_PATH = re.compile(r"(path|file|dir|directory|checkpoint)$")
"""The names of fields that hold a path; elsewhere only one that exists is taken for a path."""
LOCAL_PATH = re.compile(r"(?<![\w:/.<])(?:~|[A-Za-z]:(?=[\\/]))?(?:[\\/][\w.+@-]+)+[\\/]?")
"""A path in a text, which starts at the root, the home directory or a drive; in an address another character is
ahead of it."""


def make_public(folder: Path) -> None:
    """Take out of a folder that is to be pushed what is private.

    The training arguments are removed (they hold the token), and local paths in the configs, states and card are cut
    to their last part.
    """
    for path in sorted(folder.rglob("*")):
        if path.name == TRAINING_ARGS_NAME:
            path.unlink()
        elif path.name.endswith(("config.json", "state.json")):
            content = json.loads(path.read_text(encoding="utf-8"))
            public = _without_paths(content)
            if public != content:
                path.write_text(json.dumps(public, indent=2, sort_keys=True), encoding="utf-8")
        elif path.name == CARD_NAME:
            text = path.read_text(encoding="utf-8")
            path.write_text(LOCAL_PATH.sub(lambda found: _public(found[0]), text), encoding="utf-8")


def _without_paths(content: Any, key: str = "") -> Any:
    """Return the same JSON with the last part of each string that is a local path."""
    if isinstance(content, dict):
        return {name: _without_paths(each, name) for name, each in content.items()}
    if isinstance(content, list):
        return [_without_paths(each, key) for each in content]
    if not isinstance(content, str):
        return content
    is_relative = content.startswith(("./", "../", ".\\", "..\\"))
    if HOLDS_PATH.search(key) and (is_relative or LOCAL_PATH.match(content)):
        return _last_part(content)
    return _public(content)


def _public(text: str) -> str:
    """Return the last part of a path that exists on this machine; any other text as it is."""
    return _last_part(text) if os.path.isabs(text) and os.path.lexists(text) else text


def _last_part(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]
