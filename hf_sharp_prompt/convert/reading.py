"""How are the files of CoOp's repository, and of those that grew from it, read without running code?"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class _Nothing:
    """Takes the place of an object in a checkpoint that nothing here reads."""

    def __setstate__(self, state: Any) -> None:
        """Drop the state."""


# With warm-up, Dassl's scheduler holds a second scheduler, which holds its optimizer, so nearly every released file
# names these classes. None of their code runs: the reader puts `_Nothing` in their place.
_Global = Callable[..., Any] | tuple[Callable[..., Any], str]
_OPTIMIZERS_AND_SCHEDULERS: list[_Global] = [
    (_Nothing, name)
    for name in (
        "torch.optim.sgd.SGD",
        "torch.optim.adam.Adam",
        "torch.optim.adamw.AdamW",
        "torch.optim.rmsprop.RMSprop",
        "dassl.optim.radam.RAdam",
        "torch.optim.lr_scheduler.StepLR",
        "torch.optim.lr_scheduler.MultiStepLR",
        "torch.optim.lr_scheduler.CosineAnnealingLR",
    )
]
_OPTIMIZER_STATES: list[_Global] = [(lambda make_default: {}, "collections.defaultdict"), (dict, "builtins.dict")]


def read_checkpoint(path: str | Path) -> dict[str, torch.Tensor]:
    """The `state_dict` of a `model.pth.tar-N`, without running what else the file may hold.

    Raises:
        ValueError: No such file, one that is damaged, compressed or of another layout, or one that is more than
            tensors, optimizers and schedulers.

    Reference:
        `save_checkpoint` in https://github.com/KaiyangZhou/Dassl.pytorch, which writes these files.
    """
    if not Path(path).is_file():
        raise ValueError(f"There is no file {path}.")
    _check_size(path)
    try:
        with torch.serialization.safe_globals(_OPTIMIZERS_AND_SCHEDULERS + _OPTIMIZER_STATES):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can fail in any way
        if needed := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{path} is refused: loading it would run {needed[1]}, which may do anything. Checkpoints of these "
                "repositories hold nothing but tensors, optimizers and schedulers; get the file from its authors."
            ) from None
        # The rest of torch's message advises to load the file unsafely.
        words = str(error).rpartition("WeightsUnpickler error: ")[2].partition("\n")[0].partition(". ")[0]
        reason = words if " " in words else type(error).__name__
        raise ValueError(f"{path} is damaged, or was not written by torch.save: {reason}") from error
    state_dict = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state_dict, dict) or not all(isinstance(each, torch.Tensor) for each in state_dict.values()):
        raise ValueError(f"{path} has no 'state_dict' of tensors, as the checkpoints of these repositories have.")
    for name, tensor in state_dict.items():
        if not isinstance(name, str):
            raise ValueError(f"{path} has a 'state_dict' with the key {name!r}, which is no name of a tensor.")
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            kind = "without values" if tensor.is_meta else "quantised" if tensor.is_quantized else "sparse"
            raise ValueError(f"{name} in {path} is {kind}, which no tensor of these repositories is.")
    return state_dict


def _check_size(path: str | Path) -> None:
    """Check that a file does not unpack to more than its own size; torch.save does not compress.

    Raises:
        ValueError: It does.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # a file of an old torch, or a damaged one
    if size > Path(path).stat().st_size:
        raise ValueError(
            f"{path} is refused: it would unpack to {size:,} bytes, more than its own size, but torch.save does not "
            "compress. Get the file from its authors."
        )
