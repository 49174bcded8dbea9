"""Writes what a checkpoint holds besides the Trainer's own files, and finds out whether it is whole."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..objectives import ObjectiveSum
from ..sharpness import SharpnessAware


logger = logging.getLogger(__name__)

RULE_STATE_NAME = "sharpness.safetensors"
OBJECTIVES_STATE_NAME = "objectives.safetensors"
TRAINER_STATE_NAME = "trainer_state.json"
OPTIMIZER_NAME = "optimizer.pt"
SCHEDULER_NAME = "scheduler.pt"
MANIFEST_NAME = "checkpoint_files.json"
WRITTEN_LAST = (MANIFEST_NAME, TRAINER_STATE_NAME)


def save_state(sharpness: SharpnessAware, objectives: ObjectiveSum, checkpoint: str | Path) -> None:
    """Write what the rule and the objectives remember."""
    save_file(sharpness.state_dict(), Path(checkpoint, RULE_STATE_NAME), metadata={"rule": sharpness.rule.name})
    if objectives.objectives:
        path = Path(checkpoint, OBJECTIVES_STATE_NAME)
        save_file(objectives.state_dict(), path, metadata={"objectives": " ".join(objectives.names)})


def load_state(sharpness: SharpnessAware, objectives: ObjectiveSum, checkpoint: str | Path) -> None:
    """Read what `save_state` wrote.

    Raises:
        ValueError: The checkpoint is of a run with another rule or other objectives.
    """
    path = Path(checkpoint, RULE_STATE_NAME)
    metadata, state = _read(path)
    objectives_metadata: dict[str, str] = {"objectives": ""}
    objectives_state: dict[str, torch.Tensor] = {}
    if (path := Path(checkpoint, OBJECTIVES_STATE_NAME)).is_file():
        objectives_metadata, objectives_state = _read(path)
    then = _in_words(metadata["rule"], objectives_metadata["objectives"].split())
    now = _in_words(sharpness.rule.name, objectives.names)
    if then != now:
        raise ValueError(
            f"{checkpoint} is of a run with the sharpness rule {then}, but this one follows {now}; resume with "
            "the same or start in another output_dir."
        )
    sharpness.load_state_dict(state)
    objectives.load_state_dict(objectives_state)


def write_manifest(checkpoint: str | Path) -> None:
    """Write down which files the checkpoint has, and their sizes, so that an incomplete copy of it is recognised."""
    checkpoint = Path(checkpoint)
    files = [path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name not in WRITTEN_LAST]
    sizes = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in files}
    (checkpoint / MANIFEST_NAME).write_text(json.dumps(sizes, indent=1))


def was_interrupted(checkpoint: Path) -> bool:
    """Tell whether the saving of a checkpoint was interrupted."""
    try:
        json.loads((checkpoint / TRAINER_STATE_NAME).read_text())  # written last
    except (OSError, ValueError):
        return True
    return False


def find_damage(checkpoint: str | Path, processes: int = 1) -> str | None:
    """Say what keeps a run from going on exactly where the checkpoint was saved.

    Args:
        checkpoint: The checkpoint's directory.
        processes: How many processes the run has.

    Returns:
        The files that are missing, incomplete, unreadable or not finite, or None if there are none.
    """
    checkpoint = Path(checkpoint)
    if was_interrupted(checkpoint):
        return f"{TRAINER_STATE_NAME} is missing or incomplete"
    names = [OPTIMIZER_NAME, SCHEDULER_NAME, RULE_STATE_NAME]
    names += [f"rng_state_{index}.pth" for index in range(processes)] if processes > 1 else ["rng_state.pth"]
    sizes = dict.fromkeys(names)
    if (manifest := checkpoint / MANIFEST_NAME).is_file():
        try:
            sizes |= json.loads(manifest.read_text())
        except ValueError:
            return f"{MANIFEST_NAME} is incomplete"
        if saved_states := {name for name in sizes if name.startswith("rng_state")} - set(names):
            return f"its random numbers ({', '.join(sorted(saved_states))}) are not those of {processes} processes"
    found = (_find_damage_of_file(checkpoint, name, size) for name, size in sizes.items())
    return ", ".join(filter(None, found)) or None


def choose_checkpoint(
    wanted: str | Path | Literal[True], directories: Sequence[Path], processes: int = 1
) -> Path | None:
    """Choose the checkpoint that a run goes on from.

    Args:
        wanted: A checkpoint, or True for the newest one.
        directories: Where checkpoints may be, the preferred first.
        processes: How many processes the run has.

    Returns:
        The checkpoint; None where an interrupted save left nothing else, and the run starts from its beginning.

    Raises:
        ValueError: It is damaged, or there is none, or each that was saved to its end is damaged.
    """
    if wanted is not True:
        if damage := find_damage(wanted, processes):
            raise ValueError(
                f"{wanted} cannot be resumed: {damage}. Resume from another checkpoint, or with "
                "resume_from_checkpoint=True from the newest that is complete."
            )
        return Path(wanted)
    damaged = {}
    for checkpoint in (each for directory in directories for each in checkpoints_of(directory)):
        if (damage := find_damage(checkpoint, processes)) is None:
            return checkpoint
        if not was_interrupted(checkpoint):  # those are removed, which is said then
            logger.warning(f"{checkpoint} is passed over: {damage}.")
        damaged[checkpoint] = damage
    if not damaged:
        raise ValueError(f"There is no checkpoint in {directories[0]}; start without resume_from_checkpoint.")
    if saved := {checkpoint: damage for checkpoint, damage in damaged.items() if not was_interrupted(checkpoint)}:
        raise ValueError(
            f"No checkpoint in {directories[0]} can be resumed: "
            f"{'; '.join(f'in {checkpoint.name} {damage}' for checkpoint, damage in saved.items())}. Restore what is "
            "missing, or start without resume_from_checkpoint in another output_dir."
        )
    logger.warning(f"{directories[0]} holds no complete checkpoint; the run starts from its beginning.")
    return None


def checkpoints_of(output_dir: Path) -> list[Path]:
    """Return the directories of its checkpoints, the newest first."""
    found = [path for path in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if is_checkpoint(path)]
    return sorted(found, key=lambda path: int(path.name.split("-")[-1]), reverse=True)


def is_checkpoint(path: Path) -> bool:
    """Whether a path is named like a checkpoint of the Trainer."""
    return re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-\d+", path.name) is not None


def discard_interrupted(output_dir: Path) -> None:
    """Remove the checkpoints that an interrupted save left."""
    for checkpoint in checkpoints_of(output_dir):
        if was_interrupted(checkpoint):
            logger.warning(f"{checkpoint} is incomplete, left by an interrupted save; it is removed.")
            shutil.rmtree(checkpoint)


def _find_damage_of_file(checkpoint: Path, name: str, size: int | None) -> str | None:
    path = checkpoint / name
    if not path.is_file():
        return f"{name} is missing"
    if path.stat().st_size == 0 or size not in (None, path.stat().st_size):
        return f"{name} is incomplete, with {path.stat().st_size} bytes" + (f" of {size}" if size else "")
    try:
        finite = _is_finite(path)
    except Exception as error:  # whatever torch, pickle and safetensors raise
        return f"{name} is unreadable ({type(error).__name__})"
    return None if finite else f"{name} holds values that are not finite"


def _is_finite(path: Path) -> bool:
    """Tell whether a file's weights or optimizer state are finite; what objectives remember may have gaps."""
    if path.suffix == ".safetensors" and path.name != OBJECTIVES_STATE_NAME:
        tensors = list(load_file(path).values())
    elif path.name == OPTIMIZER_NAME:
        state = torch.load(path, map_location="cpu", weights_only=True)["state"]
        tensors = [value for each in state.values() for value in each.values() if torch.is_tensor(value)]
    else:
        return True
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def _in_words(rule: str, objectives: list[str]) -> str:
    return repr(rule) + (f" and the objectives {', '.join(objectives)}" if objectives else "")


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Metadata and tensors of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
