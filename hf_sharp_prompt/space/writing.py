"""Write a Space's folder: the app, what it installs, the adapters, and images to pick from."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import yaml
from huggingface_hub import SpaceCardData
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME

from ..cards import make_public
from ..data.decoding import decode
from ..demo import CLIP_PATH
from ..inference.pictures import names_of_pictures
from ..tuners import CLIPPromptConfig
from ..tuners.adapter_file import find_file
from ..version import __version__
from .folder import ADAPTERS, DEMO, IMAGES, SETTINGS, Settings
from .prompts import read_config_of_prompts


APP, CARD, REQUIREMENTS = "app.py", "README.md", "requirements.txt"

OWN_REQUIREMENT = f"hf-sharp-prompt[space]=={__version__}"

TEMPLATE = files("hf_sharp_prompt.space") / "template"

SEED = re.compile(r"seed\d+")
"""The last folder of an adapter that a command trained."""

TITLE = "Hand-written and learned prompts"


def write_space(
    folder: Path,
    adapters: Sequence[str],
    model: str | None = None,
    template: str | None = None,
    images: Sequence[str] = (),
    requirement: str | None = None,
) -> None:
    """Write a Space's folder.

    It gets nothing of an adapter but its config and its tensors, and nothing of an image but its pixels; local paths
    in configs are cut to their last part.

    Args:
        folder: The folder.
        adapters: Directories or Hub ids.
        model: The base model: a Hub id, a directory, or `demo`. By default the one that the adapters name.
        template: The hand-written prompt that stands there at first. By default the words that the first adapter's
            context started from, or "a photo of a {}.".
        images: Paths of images to pick from.
        requirement: What to install, a line of `requirements.txt`. By default this version of the package.

    Raises:
        FileNotFoundError: There is no such adapter.
        ValueError: An adapter is named twice, or cannot be asked for any classes; the adapters name different base
            models, or none; an image cannot be read.
    """
    configs = [read_config_of_prompts(adapter) for adapter in adapters]
    settings = Settings(model or common_model(adapters, configs), template or start_of(configs[0]))
    names = names_of_adapters(adapters)
    for name, adapter in zip(names, adapters, strict=True):
        (folder / ADAPTERS / name).mkdir(parents=True)
        for file in (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME):
            shutil.copyfile(find_file(file, adapter, None), folder / ADAPTERS / name / file)
    for path, name in names_of_pictures(images).items() if images else ():
        (folder / IMAGES).mkdir(exist_ok=True)
        decode(path).save(folder / IMAGES / f"{name}.png")
    (folder / SETTINGS).write_text(yaml.safe_dump(asdict(settings), allow_unicode=True), encoding="utf-8")
    (folder / REQUIREMENTS).write_text(f"{requirement or OWN_REQUIREMENT}\n", encoding="utf-8")
    shutil.copyfile(str(TEMPLATE / APP), folder / APP)
    (folder / CARD).write_text(make_card(settings.model, adapters, names), encoding="utf-8")
    make_public(folder)


def common_model(adapters: Sequence[str], configs: Sequence[CLIPPromptConfig]) -> str:
    """Return the base model that all adapters name.

    Raises:
        ValueError: They name different ones, or none.
    """
    models = [config.base_model_name_or_path for config in configs]
    for adapter, model in zip(adapters, models):
        if not model:
            raise ValueError(f"The adapter {adapter} does not name its base model; name it with --model.")
        if model != models[0]:
            raise ValueError(
                f"{adapters[0]} is for {models[0]}, and {adapter} for {model}; prompts are compared on one model. If "
                "the two are the same, name it with --model."
            )
    return DEMO if models[0] == str(CLIP_PATH) else str(models[0])


def start_of(config: CLIPPromptConfig) -> str:
    """Return the words that an adapter's context started from, around a class name."""
    return f"{config.text_init or 'a photo of a'} {config.class_template}"


def names_of_adapters(adapters: Sequence[str]) -> list[str]:
    """Return for each adapter a name that no other has: the last part of its path, or as many as tell them apart.

    A last part such as `seed1` is dropped where the others suffice.

    Raises:
        ValueError: An adapter is named twice.
    """
    whole = [parts_of(adapter) for adapter in adapters]
    without_seeds = [each[:-1] if len(each) > 1 and SEED.fullmatch(each[-1]) else each for each in whole]
    for parts, fewest in ((without_seeds, 1), (whole, 2)):
        for count in range(fewest, max(map(len, parts)) + 1):
            names = ["-".join(each[-count:]) for each in parts]
            if len({*names}) == len(names):
                return names
    raise ValueError(f"An adapter is named twice among {', '.join(adapters)}; name each once.")


def parts_of(adapter: str) -> list[str]:
    """Return the parts of a directory's path, or of a Hub id, with `_` for what a name on the Hub may not have."""
    path = Path(adapter).expanduser()
    parts = path.resolve().parts if path.exists() else adapter.split("/")
    return [name for part in parts if (name := re.sub(r"[^\w.-]+", "_", part, flags=re.ASCII).strip("._-"))]


def make_card(model: str, adapters: Sequence[str], names: Sequence[str]) -> str:
    """Make the Space's README, whose head tells the Hub how to run it."""
    on_hub = [
        name for name in (model, *adapters) if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not Path(name).exists()
    ]
    data = SpaceCardData(
        title=TITLE,
        emoji="🌡️",
        colorFrom="blue",
        colorTo="red",
        sdk="gradio",
        sdk_version=version("gradio"),
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
        app_file=APP,
        models=on_hub or None,
        tags=["hf-sharp-prompt", "peft", "clip"],
    )
    text = (TEMPLATE / CARD).read_text(encoding="utf-8")
    return f"---\n{data}\n---\n\n" + text.format(title=TITLE, model=model, prompts=", ".join(names))
