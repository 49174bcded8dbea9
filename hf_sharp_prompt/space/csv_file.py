"""Answers of prompts about many images, as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from ..inference.classifier import TOP
from ..printable import printable
from .prompts import Answer


COLUMNS = ("image", "prompt", "rank", "label", "score")
"""Those of `sharp-prompt predict --format csv`, and the prompt."""


def write_csv(path: Path, images: Sequence[str], class_names: Sequence[str], answers: Sequence[Answer]) -> None:
    """Write a row for each image, prompt and class, of the most probable classes; image by image.

    Args:
        path: The file.
        images: The images' names.
        class_names: The classes.
        answers: The prompts' answers, to these images.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number, image in enumerate(images):
            for answer in answers:
                shares = answer.probabilities[number].tolist()
                ranked = sorted(zip(shares, class_names), key=lambda each: each[0], reverse=True)[:TOP]
                for rank, (share, name) in enumerate(ranked, start=1):
                    writer.writerow((printable(image), answer.prompt, rank, printable(name), f"{share:.6f}"))
