"""A Space's folder, and the page that it makes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..demo import CLIP_PATH
from .prompts import ComparedPrompts


if TYPE_CHECKING:
    import gradio as gr

ADAPTERS, IMAGES, SETTINGS = "adapters", "images", "space.yaml"

DEMO = "demo"
"""The name of the embedded demo's CLIP, whose path differs from machine to machine."""


@dataclass(frozen=True)
class Settings:
    """What `space.yaml` says.

    Args:
        model: The base model: a Hub id, a directory, or `demo`.
        template: The hand-written prompt that stands there at first.
    """

    model: str
    template: str

    @classmethod
    def read(cls, file: Path) -> Settings:
        """Read the file.

        Raises:
            ValueError: It cannot be read, or says something else.
        """
        try:
            values: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ValueError(f"{file} cannot be read ({' '.join(str(error).split())}); repair it.") from error
        names = {field.name for field in fields(cls)}
        is_settings = isinstance(values, dict) and values.keys() == names
        if not is_settings or not all(isinstance(value, str) for value in values.values()):
            raise ValueError(f"{file} must give {' and '.join(sorted(names))} a text each, and nothing else.")
        return cls(**values)


def open_space(folder: Path) -> gr.Blocks:
    """Make the page of a Space's folder.

    Args:
        folder: The folder. It has `space.yaml`, a folder for each adapter in `adapters`, and images to pick from in
            `images`, if there are any.

    Raises:
        FileNotFoundError: There are no adapters.
        ValueError: An adapter or the base model cannot be used, or `space.yaml` is damaged.
    """
    from .app import make_app  # Gradio takes seconds to import, and a Space is written and pushed without it.

    prompts, template = load_prompts(folder), Settings.read(folder / SETTINGS).template
    class_names = next(iter(prompts.configs.values())).class_names or []
    images = sorted(path for path in (folder / IMAGES).glob("*") if path.is_file())
    return make_app(prompts, class_names, template, images)


def load_prompts(folder: Path) -> ComparedPrompts:
    """Load the prompts of a Space's folder, sorted by name; arguments and errors as in [`open_space`]."""
    adapters = {path.name: path for path in sorted((folder / ADAPTERS).glob("*")) if path.is_dir()}
    if not adapters:
        raise FileNotFoundError(f"There are no adapters in {folder / ADAPTERS}; put each into a folder there.")
    model = Settings.read(folder / SETTINGS).model
    return ComparedPrompts(adapters, str(CLIP_PATH) if model == DEMO else model)
