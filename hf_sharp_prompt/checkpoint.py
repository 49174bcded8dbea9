"""What a checkpoint holds besides the Trainer's own files, and whether it is whole."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .objectives import ObjectiveSum
from .sharpness import SharpnessAware
from .sharpness.rule import OBJECTIVES


logger = logging.getLogger(__name__)

RULE_STATE_NAME = "sharpness.safetensors"
OBJECTIVES_STATE_NAME = "objectives.safetensors"
TRAINER_STATE_NAME = "trainer_state.json"


def save_state(sharpness: SharpnessAware, objectives: ObjectiveSum, checkpoint: str | Path) -> None:
    """Write what the rule and the objectives remember."""
    save_file(sharpness.state_dict(), Path(checkpoint, RULE_STATE_NAME), metadata={"rule": sharpness.rule.name})
    if objectives.objectives:
        path = Path(checkpoint, OBJECTIVES_STATE_NAME)
        save_file(objectives.state_dict(), path, metadata={"objectives": " ".join(objectives.names)})


def load_state(sharpness: SharpnessAware, objectives: ObjectiveSum, checkpoint: str | Path) -> None:
    """Read it again; a checkpoint of a plain Trainer has none.

    Raises:
        ValueError: The checkpoint is of a run with another rule or other objectives.
    """
    path = Path(checkpoint, RULE_STATE_NAME)
    if not path.is_file():
        return
    metadata, state = _read(path)
    objectives_metadata, objectives_state = {"objectives": ""}, {}
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


def is_complete(checkpoint: Path) -> bool:
    """Whether its saving came to its end."""
    try:
        json.loads((checkpoint / TRAINER_STATE_NAME).read_text())  # written last
    except (OSError, ValueError):
        return False
    return True


def discard_incomplete(output_dir: Path) -> None:
    """Remove the checkpoints that an interrupted save left."""
    for checkpoint in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if not is_complete(checkpoint):
            logger.warning(f"{checkpoint} is incomplete, left by an interrupted save; it is removed.")
            shutil.rmtree(checkpoint)


def replace(path: Path, target: Path) -> None:
    """Move a file or folder to where another may be."""
    if target.is_dir():
        shutil.rmtree(target)
    os.replace(path, target)


def _in_words(rule: str, objectives: list[str]) -> str:
    if rule == "none" and len(objectives) == 1 and objectives[0] in OBJECTIVES:  # chosen as a rule
        return repr(objectives[0])
    return repr(rule) + (f" and the objectives {', '.join(objectives)}" if objectives else "")


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Metadata and tensors of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
