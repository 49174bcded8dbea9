"""The hand-written texts around class names that learned prompts are held against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..hyperparameters import nearest


Templates = str | Sequence[str]

ENSEMBLES: dict[str, tuple[str, ...]] = {
    "imagenet_7": (
        "itap of a {}.",
        "a bad photo of the {}.",
        "a origami {}.",
        "a photo of the large {}.",
        "a {} in a video game.",
        "art of the {}.",
        "a photo of the small {}.",
    ),
}
"""`imagenet_7`: the seven that CLIP's authors found to do as well on ImageNet as their 80 (Radford et al., ICML 2021;
https://github.com/openai/CLIP/blob/main/notebooks/Prompt_Engineering_for_ImageNet.ipynb)."""


def read_templates(templates: Templates, objective: str) -> list[str]:
    """A template, several, those of an ensemble, or the lines of a text file.

    Args:
        templates: A text with `{}` for the name, a list of such texts, a key of `ENSEMBLES`, or a file's path.
        objective: Whose templates they are, for the error.

    Raises:
        ValueError: A template without exactly one `{}`; neither a template nor an ensemble nor a file.
    """
    if isinstance(templates, str) and "{}" not in templates:
        if templates not in ENSEMBLES and not Path(templates).expanduser().is_file():
            raise ValueError(
                f"{objective}: there are no templates {templates!r}{nearest(templates, ENSEMBLES)} Give a text with "
                f"{{}} for the name, a list of such texts, a file with one in each line, or one of: "
                f"{', '.join(ENSEMBLES)}."
            )
        templates = ENSEMBLES[templates] if templates in ENSEMBLES else read_lines(templates)
    listed = [templates] if isinstance(templates, str) else list(templates)
    for template in listed:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise ValueError(
                f"{objective}: a template contains {{}} exactly once, for the class name; got {template!r}."
            )
    if not listed:
        raise ValueError(f"{objective}: templates is empty; give at least one text with {{}} for the class name.")
    return listed


def read_lines(path: str) -> list[str]:
    """The lines of a text file that are not empty."""
    lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip()]
