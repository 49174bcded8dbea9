"""Pictures of predictions, a file for each image."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.decoding import decode
from ..files import written_whole
from ..printable import printable
from .output import is_first_process
from .predictor import Predictor


LONGEST_NAME = 100
"""Characters of a file's name before its ending."""

CLASSES_NAME = "classes.txt"


class Pictures:
    """Writes what is predicted of images, from one process of several; files of the same names are replaced.

    Args:
        directory: Where to.
        paths: All images.
        predictor: What draws.

    Raises:
        ValueError: The directory cannot be written, or would hold the pictures beside the images.
    """

    def __init__(self, directory: str, paths: Sequence[str], predictor: Predictor[Any, Any]) -> None:
        self.directory, self.predictor = Path(directory).expanduser(), predictor
        self.names = names_of_pictures(paths)
        if any(Path(path).resolve().parent == self.directory.resolve() for path in paths):
            raise ValueError(
                f"--output_dir {directory} has images to predict, which pictures would be mixed with; choose another."
            )
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"--output_dir {directory} cannot be made ({error.strerror}); choose another.") from error
        labels = predictor.labels_of_files()
        if labels is not None and is_first_process():
            with written_whole(self.directory / CLASSES_NAME) as unfinished:
                unfinished.write_text("".join(f"{printable(label)}\n" for label in labels), encoding="utf-8")

    def write(self, path: str, answer: Any) -> None:
        """Write the pictures of an image's answer."""
        if is_first_process():
            for ending, picture in self.predictor.files(answer, decode(path)).items():
                with written_whole(self.directory / f"{self.names[path]}{ending}.png") as unfinished:
                    picture.save(unfinished, format="PNG")


def names_of_pictures(paths: Sequence[str]) -> dict[str, str]:
    """Return for each image a name for its files, which no other has.

    It is the image's path below the folder that all images are in, without its ending, with `_` for folders and all
    that a file system may refuse. A number is appended where two would be the same.

    Args:
        paths: The images, each once.
    """
    absolute = [os.path.abspath(path) for path in paths]
    folder = os.path.commonpath([os.path.dirname(path) for path in absolute])
    names: dict[str, str] = {}
    taken: set[str] = set()
    for path, whole in zip(paths, absolute, strict=True):
        wanted = re.sub(r"[^\w.-]+", "_", os.path.splitext(os.path.relpath(whole, folder))[0])
        wanted = wanted.lstrip(".-")[-LONGEST_NAME:] or "image"
        name, number = wanted, 1
        # On some file systems case does not count; a label map must not have the name of another image's picture.
        while {name.lower(), f"{name}_labels".lower()} & taken:
            number += 1
            name = f"{wanted}-{number}"
        taken |= {name.lower(), f"{name}_labels".lower()}
        names[path] = name
    return names
