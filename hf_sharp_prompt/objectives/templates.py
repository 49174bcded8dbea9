"""Hand-written texts around class names, with which learned prompts are compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..hyperparameters import nearest
from .imagenet import IMAGENET_7, IMAGENET_60, IMAGENET_80
from .text_lines import read_lines


Templates = str | Sequence[str]

ENSEMBLES: dict[str, tuple[str, ...]] = {
    "imagenet_7": IMAGENET_7,
    "imagenet_60": IMAGENET_60,
    "imagenet_80": IMAGENET_80,
}
"""The ensembles of templates that come with the package, by name: CLIP's for ImageNet."""


def read_templates(templates: Templates, objective: str) -> list[str]:
    """Read a template, those of an ensemble or of a text file, or several of these.

    Args:
        templates: A text with `{}` for the name, a key of `ENSEMBLES`, a file's path, or a list of such.
        objective: The objective whose templates they are, for the error.

    Raises:
        ValueError: A template without exactly one `{}`; neither a template nor an ensemble nor a file; none at all.
    """
    listed = [templates] if isinstance(templates, str) else list(templates)
    if not listed:
        raise ValueError(f"{objective}: templates is empty; give at least one text with {{}} for the class name.")
    read = [template for each in listed for template in _read_one(each, objective)]
    for template in read:
        check_template(template, objective)
    return read


def check_template(template: str, objective: str) -> None:
    """Check that a text can be a template.

    Raises:
        ValueError: It does not contain `{}` exactly once.
    """
    if not isinstance(template, str) or template.count("{}") != 1:
        raise ValueError(f"{objective}: a template contains {{}} exactly once, for the class name; got {template!r}.")


def _read_one(entry: str, objective: str) -> Sequence[str]:
    """Return the templates that one entry stands for."""
    if not isinstance(entry, str) or "{" in entry:
        return [entry]
    if entry in ENSEMBLES:
        return ENSEMBLES[entry]
    if Path(entry).expanduser().is_file():
        return read_lines(entry)
    raise ValueError(
        f"{objective}: there are no templates {entry!r}{nearest(entry, ENSEMBLES)} Give a text with {{}} for the "
        f"name, a list of such texts, a file with one in each line, or one of: {', '.join(ENSEMBLES)}."
    )
