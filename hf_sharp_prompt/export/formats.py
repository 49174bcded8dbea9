"""What the command writes, by the format's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ..files import written_whole
from ..inference.loading import LoadedAdapter
from ..tuners import CLIPPromptConfig
from .onnx_graphs import write_onnx_classifier, write_onnx_towers
from .refusals import check_classifies
from .zero_shot_head import ZeroShotHead


def write_head(adapter: LoadedAdapter, folder: Path) -> None:
    """Write `zero_shot_head.safetensors`."""
    ZeroShotHead.of(adapter.model).save(folder / "zero_shot_head.safetensors")


def write_open_clip(adapter: LoadedAdapter, folder: Path) -> None:
    """Write `open_clip.safetensors`."""
    ZeroShotHead.of(adapter.model).save_for_open_clip(folder / "open_clip.safetensors")


def write_onnx(adapter: LoadedAdapter, folder: Path) -> None:
    """Write `classifier.onnx`, and what makes its inputs."""
    write_onnx_classifier(adapter.model.float(), folder)
    write_processors(adapter, folder)


def write_towers(adapter: LoadedAdapter, folder: Path) -> None:
    """Write `text.onnx` and `image.onnx`, and what makes their inputs."""
    write_onnx_towers(adapter.model.float(), folder)
    write_processors(adapter, folder)


def write_plain_clip(adapter: LoadedAdapter, folder: Path) -> None:
    """Write a plain CLIP with its tokenizer and image processor.

    Raises:
        ValueError: The adapter has a head, or a design that is not merged.
    """
    check_classifies(adapter.model)
    if not isinstance(adapter.config, CLIPPromptConfig):
        raise ValueError("The adapter is of a vision transformer, whose tokens no plain model has; use --format onnx.")
    tokenizer = load_tokenizer(adapter)
    merged = adapter.model.merge_and_unload(tokenizer=tokenizer)
    with written_whole(folder) as unfinished:
        for part in (merged, tokenizer, adapter.image_processor):
            part.save_pretrained(unfinished)


def write_processors(adapter: LoadedAdapter, folder: Path) -> None:
    """Write the image processor, and the tokenizer of a model that reads texts."""
    parts = [adapter.image_processor]
    if isinstance(adapter.config, CLIPPromptConfig):
        parts.append(load_tokenizer(adapter))
    with written_whole(folder) as unfinished:
        for part in parts:
            part.save_pretrained(unfinished)


def load_tokenizer(adapter: LoadedAdapter) -> PreTrainedTokenizerBase:
    """Load the tokenizer that the adapter's classes are read with."""
    return adapter.model.load_tokenizer(adapter.config, "The export", "it to the Python functions")


WRITERS: Mapping[str, Callable[[LoadedAdapter, Path], None]] = {
    "head": write_head,
    "open_clip": write_open_clip,
    "onnx": write_onnx,
    "onnx_towers": write_towers,
    "transformers": write_plain_clip,
}
