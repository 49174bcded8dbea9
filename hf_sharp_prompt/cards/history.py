"""What was seen of an adapter's training, which its config does not tell; the card carries it on.

`strict` checks the values by the annotations, which have to be types: hence no `from __future__ import annotations`.
"""

import dataclasses
import json
import re

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError


CARD_NAME = "README.md"
PICTURE_NAME = "predictions.png"
"""The picture of predictions beside a card that shows one."""
CURVE_NAME = "curve.png"
"""The picture, beside a card, of what was measured on the way."""

_CARRIED = re.compile(r"<!-- hf_sharp_prompt (\{.*\}) -->")


@strict
@dataclasses.dataclass
class History:
    """What was seen of an adapter's training. Every part may be unknown.

    Args:
        method: What was followed, in words: rule, subspace and objectives.
        members: What was followed, by the names of its classes, for the title.
        tags: The names by which it is chosen, for the Hub's search.
        papers: By citation the address of each paper of the methods, without that of the design.
        dataset: The names of the data sets.
        training_images: The number of images to train on.
        shots: How many of them each class has, if all have as many.
        settings: By name the arguments that identify the run.
        measured_on: The names of the data sets that were measured on, if they are others.
        results: By name what was measured last; accuracies and errors from 0 to 1.
        curve: What was measured on the way, oldest first; each with `epoch` or `step`.
        sharpness: By name what the rule logged last.
        measured_classes: By name the sets that were measured on, and their classes.
        versions: By name the versions of the packages.
        seconds: How long the training took.
        hardware: What it ran on.
        source: The file that the adapter was converted from.
        license, language: As for `ModelCardData`.
        picture: A PNG file that shows predictions. It is a file of its own beside the card.
    """

    method: list[str] = dataclasses.field(default_factory=list)
    members: list[str] = dataclasses.field(default_factory=list)
    tags: list[str] = dataclasses.field(default_factory=list)
    papers: dict[str, str] = dataclasses.field(default_factory=dict)
    dataset: list[str] = dataclasses.field(default_factory=list)
    training_images: int | None = None
    shots: int | None = None
    settings: dict[str, str] = dataclasses.field(default_factory=dict)
    measured_on: list[str] = dataclasses.field(default_factory=list)
    results: dict[str, float | int] = dataclasses.field(default_factory=dict)
    curve: list[dict[str, float | int]] = dataclasses.field(default_factory=list)
    sharpness: dict[str, float | int] = dataclasses.field(default_factory=dict)
    measured_classes: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    seconds: float | int | None = None
    hardware: str = ""
    source: str = ""
    license: str | None = None
    language: str | None = None
    picture: bytes | None = None

    def as_comment(self) -> str:
        """Return a comment of Markdown that holds all but the picture."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        told = {name: value for name, value in values.items() if name != "picture" and value not in (None, "", [], {})}
        text = json.dumps(told)
        for ending in ("<", ">", "--"):  # Nothing in it may end the comment.
            text = text.replace(ending, "".join(f"\\u{ord(character):04x}" for character in ending))
        return f"<!-- hf_sharp_prompt {text} -->"


def read_history(card: str) -> History | None:
    """Return the history that a card carries; None if it carries none.

    Raises:
        ValueError: It is damaged, or a newer version wrote it.
    """
    found = _CARRIED.search(card)
    if found is None:
        return None
    try:
        values = json.loads(found[1])
        values.pop("picture", None)
        return History(**values)
    except (ValueError, TypeError, RecursionError, StrictDataclassError) as error:
        raise ValueError(f"its record of the training cannot be read ({' '.join(str(error).split())})") from error
