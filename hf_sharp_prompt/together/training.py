"""Trainers that train at once, where their models differ in the learned context of texts alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Any

from accelerate.utils import DistributedType
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed
from transformers.trainer_utils import TrainOutput

from ..training.arguments import SharpPromptTrainingArguments
from ..training.trainer import SharpPromptTrainer
from ..tuners.clip_prompt.model import CLIPPromptModel
from ..tuners.prompted_classifier import find_prompted_classifier
from .session import Session, name_of_run, seconds
from .weights import share_equal_weights


logger = logging.getLogger(__name__)


def train_together(
    trainers: Sequence[SharpPromptTrainer],
    resume_from_checkpoint: str | bool | None = None,
    return_exceptions: bool = False,
) -> list[TrainOutput | Exception]:
    """Train several prompts of the same model at once, each as `set_seed(trainer.args.seed)` and `train()` train it.

    Each Trainer keeps its own data, rule, optimizer, schedule, callbacks and checkpoints. Only what they ask of the
    text tower is computed for all together, forwards and backwards. Features and gradients, and so the prompts, are
    those of separate runs up to the order in which a matrix product adds.

    Trainers for which [`why_alone`] has a reason are trained one after the other, and the log says why.

    Args:
        trainers: The Trainers. Frozen weights of theirs that are equal will share their memory.
        resume_from_checkpoint: As each one's `train` takes it.
        return_exceptions: Whether an error takes the place of its Trainer's output, as with `asyncio.gather`.

    Returns:
        What each Trainer's `train` returns. Its `train_runtime` is the Trainer's own time and its share of what is
        computed for all.

    Raises:
        Exception: The first error of a Trainer, when all have ended, unless `return_exceptions`.

    Example:
        ```py
        >>> trainers = [make_trainer(rule, seed) for rule in ("none", "sam", "gcsam") for seed in (1, 2, 3)]
        >>> outputs = train_together(trainers)
        ```
    """
    reasons = [why_alone(trainer) for trainer in trainers]
    share_equal_weights(trainer.model for trainer in trainers)
    runs = {str(number): partial(_train, each, resume_from_checkpoint) for number, each in enumerate(trainers)}
    at_once = {name: run for (name, run), reason in zip(runs.items(), reasons) if reason is None}
    groups = [at_once] if at_once else []
    for (name, run), reason in zip(runs.items(), reasons):
        if reason is not None:
            logger.warning(f"Trainer {name} of {len(trainers)} is trained alone: {reason}.")
            groups.append({name: run})
    outcomes: dict[str, TrainOutput | Exception] = {}
    for group in groups:
        with closing(Session(group).run()) as ended:
            outcomes.update(ended)
    in_order = [outcomes[name] for name in runs]
    failures = [each for each in in_order if isinstance(each, Exception)]
    if failures and not return_exceptions:
        raise failures[0]
    return in_order


def _train(trainer: SharpPromptTrainer, resume_from_checkpoint: str | bool | None) -> TrainOutput:
    set_seed(trainer.args.seed)
    callback = OwnTime()
    trainer.add_callback(callback)
    try:
        return trainer.train(resume_from_checkpoint)
    finally:
        trainer.remove_callback(callback)


def why_alone(trainer: SharpPromptTrainer) -> str | None:
    """Return why a Trainer cannot be trained together with others; None if it can.

    Args:
        trainer: The Trainer, before it trains.
    """
    return why_arguments_alone(trainer.args) or why_model_alone(trainer.model)


def why_arguments_alone(args: SharpPromptTrainingArguments) -> str | None:
    """Return why training arguments do not let a run be trained together with others; None if they do."""
    if args.world_size > 1 or args.n_gpu > 1:
        return "it trains on several devices"
    if args.distributed_state is not None and args.distributed_state.distributed_type is not DistributedType.NO:
        return f"{args.distributed_state.distributed_type.value} has its own backward pass"
    if args.torch_compile:
        return "its model is compiled"
    if args.dataloader_num_workers:
        return "workers load its data, and every run would start its own"
    return None


def why_model_alone(model: nn.Module) -> str | None:
    """Return why a model's texts cannot be encoded together with those of others; None if they can."""
    prompted = find_prompted_classifier(model)
    if not isinstance(prompted, CLIPPromptModel):
        return "its model does not compare images with texts behind a learned context"
    config = prompted.active_config
    if config.num_vision_tokens:
        return "its prompts are in the image tower, too"
    if config.conditional:
        return "its context is conditioned on images"
    if not prompted.shares_prefix:
        return "its class names do not all stand behind the same context"
    if config.class_chunk_size is not None:
        return "class_chunk_size asks for its classes in chunks"
    if any(each.requires_grad and "clip_prompt_" not in name for name, each in model.named_parameters()):
        return "more than its prompts is trained"
    return None


class OwnTime(TrainerCallback):
    """Puts a run's own time in the place of that which passed while it was trained with others.

    Its own time is that in which only it ran, and its share of what was computed for several.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._started = seconds()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if name_of_run() is None or logs is None or not logs.get("train_runtime"):
            return
        own = seconds() - self._started
        share = own / logs["train_runtime"]
        corrected = {"train_runtime": round(own, 4)}
        for name in ("train_samples_per_second", "train_steps_per_second"):
            if name in logs:
                corrected[name] = round(logs[name] / share, 3)
        logs.update(corrected)
        state.log_history[-1].update(corrected)
