"""An adapter's file of tensors: where it is, what it holds, and what it must hold before anything is made for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import file_exists, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from peft import PeftModel
from peft.utils import SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME, AuxiliaryTrainingWrapper
from safetensors import SafetensorError, safe_open
from torch import nn

from ..hub import what_the_hub_said


Shapes = Mapping[str, tuple[int, ...]]

FLOATS = ("F64", "F32", "F16", "BF16")
"""The types that a prompt may have in a safetensors file."""


@dataclass(frozen=True)
class AdapterFile:
    """The names and shapes of the tensors in an adapter's file, whose values are finite.

    Args:
        name: What errors call it: its path, or file and repository.
        shapes: The tensors' shapes, by name.
    """

    name: str
    shapes: Shapes

    @classmethod
    def read(cls, path: Path, name: str) -> AdapterFile:
        """Read the names and shapes, and check the values one tensor at a time.

        Raises:
            ValueError: The file is damaged, or has a tensor that is not of floating point or not finite.
        """
        shapes = {}
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 (not a dict)
                    header = file.get_slice(key)
                    if (dtype := header.get_dtype()) in FLOATS and not torch.isfinite(file.get_tensor(key)).all():
                        raise ValueError(
                            f"{name}: {key!r} has values that are not finite, so its training diverged or the file is "
                            "damaged; use another checkpoint."
                        )
                    if dtype not in FLOATS and "_prompt_" in key:
                        raise ValueError(
                            f"{name}: {key!r} is of type {dtype}, but a prompt must be one of {', '.join(FLOATS)}."
                        )
                    shapes[key] = tuple(header.get_shape())
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{name} is incomplete or not a safetensors file: {error}") from error
        return cls(name, shapes)

    def check(self, expected: Shapes, who: str) -> None:
        """Compare names and shapes with what a config and a model make.

        Args:
            expected: The shape of each tensor of the adapter, by name.
            who: The model's name, for the error.

        Raises:
            ValueError: A tensor is missing, has another shape, or is not of the adapter.
        """
        if (problem := difference(self.shapes, expected, who)) is not None:
            raise ValueError(f"{self.name} does not fit its own config: {problem}. Load the adapter as it was saved.")


def difference(found: Shapes, expected: Shapes, who: str) -> str | None:
    """Describe the first tensor of a file that differs from what a config makes on a model; None if there is none.

    Args:
        found: The file's shapes, by name.
        expected: The shapes that the config makes on the model, by name.
        who: The model's name.
    """
    for key in sorted(found.keys() | expected.keys()):
        if found.get(key) != expected.get(key):
            here = _shape_in_words(found[key]) if key in found else "missing"
            there = _shape_in_words(expected[key]) if key in expected else "not there"
            return f"{key!r} is {here} in its file, but with its config on this {who} it is {there}"
    return None


def find_file(name: str, model_id: str | Path, subfolder: str | None, **hub: Any) -> Path:
    """Return the path of an adapter's file in a directory, or in the Hub's cache after a download.

    Args:
        name: The file's name.
        model_id: A directory, or a repository of the Hub.
        subfolder: Its folder there.
        **hub: Passed on to `hf_hub_download`.

    Raises:
        FileNotFoundError: Neither a directory nor a repository has it.
        ValueError: The Hub does not say; the error says what the server answered.
    """
    folder = Path(model_id, subfolder or "")
    if (folder / name).is_file():
        return folder / name
    if folder.exists():
        raise FileNotFoundError(f"Can't find {name!r} at {str(model_id)!r}: there is no such file in {folder}.")
    try:
        return Path(hf_hub_download(str(model_id), name, subfolder=subfolder, **hub))
    except EntryNotFoundError as error:
        said = what_the_hub_said(error)
        if isinstance(error, FileNotFoundError) and "answered" in said and "answered 404" not in said:
            raise ValueError(f"Can't find {name!r} at {str(model_id)!r}: {said}.") from error
        raise FileNotFoundError(f"Can't find {name!r} at {str(model_id)!r}: {said}.") from error
    except Exception as error:
        raise ValueError(f"Can't find {name!r} at {str(model_id)!r}: {what_the_hub_said(error)}.") from error


def find_tensors(model_id: str | Path, subfolder: str | None, **hub: Any) -> AdapterFile | None:
    """Read an adapter's file of tensors, if it has one.

    Raises:
        ValueError: The file is damaged, holds what no adapter has, or is a pickle.
    """
    at = (
        str(Path(model_id, subfolder or ""))
        if Path(model_id).exists()
        else "/".join(filter(None, (str(model_id), subfolder)))
    )
    try:
        path = find_file(SAFETENSORS_WEIGHTS_NAME, model_id, subfolder, **hub)
    except FileNotFoundError:
        if _has_pickle(model_id, subfolder, hub):
            raise ValueError(
                f"{at} has its tensors in {WEIGHTS_NAME}, a pickle, which may run code when it is read. Prompts are "
                f"saved as {SAFETENSORS_WEIGHTS_NAME}; ask its author for that."
            ) from None
        return None
    return AdapterFile.read(path, f"{SAFETENSORS_WEIGHTS_NAME} of {at}")


def _has_pickle(model_id: str | Path, subfolder: str | None, hub: Mapping[str, Any]) -> bool:
    if Path(model_id).exists():
        return Path(model_id, subfolder or "", WEIGHTS_NAME).exists()
    asked = {name: hub[name] for name in ("revision", "repo_type", "token") if name in hub}
    try:
        return file_exists(str(model_id), "/".join(filter(None, (subfolder, WEIGHTS_NAME))), **asked)
    except Exception:  # the Hub cannot be asked: loading the tensors says so
        return False


def shapes_of_saved_modules(model: nn.Module, names: Iterable[str] | None) -> dict[str, tuple[int, ...]]:
    """Return the shapes that a file holds of the base model's modules that a config's `modules_to_save` names."""
    shapes = {}
    inside: tuple[str, ...] = ()  # the modules that PEFT has wrapped already
    for key, module in model.named_modules():
        if key.startswith(inside or ("\0",)) or not any(key.endswith(name) for name in names or ()):
            continue
        if isinstance(module, AuxiliaryTrainingWrapper):
            inside += (f"{key}.",)
            module = module.original_module
        for name, tensor in module.state_dict().items():
            shapes[f"base_model.model.{key}.{name}"] = tuple(tensor.shape)
    return shapes


def check_state_dict(
    model: PeftModel,
    adapter_name: str,
    state_dict: Mapping[str, torch.Tensor],
    belongs: Callable[[str], bool],
) -> None:
    """Check what is about to be loaded into a model's adapter, so that nothing but the adapter changes.

    Args:
        model: The model.
        adapter_name: The adapter.
        state_dict: What will be copied into `model.state_dict()`, by its names there.
        belongs: True for the names of the adapter's prompt.

    Raises:
        ValueError: A tensor is missing, has another shape, is not of the adapter, or is not finite.
    """
    kept = f".modules_to_save.{adapter_name}."
    made = {key: tensor for key, tensor in model.state_dict().items() if belongs(key) or kept in key}
    config = model.peft_config[adapter_name]
    who = f"The adapter {adapter_name!r}, made for {config.base_model_name_or_path},"
    found, expected = ({key: tuple(tensor.shape) for key, tensor in each.items()} for each in (state_dict, made))
    if (problem := difference(found, expected, type(model.get_base_model()).__name__)) is not None:
        raise ValueError(f"{who} does not fit its own config: {problem}. Load the adapter as it was saved.")
    for key, tensor in state_dict.items():
        if tensor.is_floating_point() != made[key].is_floating_point():
            raise ValueError(f"{who} cannot be filled: {key!r} is of type {tensor.dtype} in its file.")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(
                f"{who} cannot be filled: {key!r} has values that are not finite, so its training diverged or the "
                "file is damaged; use another checkpoint."
            )


def _shape_in_words(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "one number"
