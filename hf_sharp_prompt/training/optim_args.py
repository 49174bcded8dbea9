"""What `optim_args` may say: what the optimizer will hear, and no argument of the Trainer's own."""

from __future__ import annotations

from transformers import Trainer, TrainingArguments
from transformers.training_args import OptimizerNames


ARGUMENTS = {
    "lr": "learning_rate",
    "learning_rate": "learning_rate",
    "weight_decay": "weight_decay",
    "betas": "adam_beta1 and adam_beta2",
    "beta1": "adam_beta1",
    "beta2": "adam_beta2",
    "adam_beta1": "adam_beta1",
    "adam_beta2": "adam_beta2",
}
"""Entry of `optim_args` → the training arguments that say the same."""

OVERRIDDEN = ("lr", "learning_rate", "weight_decay")
"""Entries that the Trainer overrides, whatever the optimizer: by its own arguments and by its parameter groups."""

OF_TORCH = ("sgd", "adagrad", "rmsprop", "adamw_torch", "adamw_torch_fused", "adafactor")
"""Optimizers whose keyword arguments show which entries the Trainer reads."""


def check_optim_args(args: TrainingArguments) -> None:
    """Check that every entry of `optim_args` has an effect.

    Args:
        args: The training arguments.

    Raises:
        ValueError: An entry that is not `name=value`, that an argument of the Trainer overrides, or that the
            optimizer does not take.
    """
    entries = [entry for entry in (args.optim_args or "").replace(" ", "").split(",") if entry]
    names = []
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not (name and equals and value) or "=" in value:
            raise ValueError(f"optim_args must be name=value pairs with commas between, got {args.optim_args!r}.")
        names.append(name)
    ignored = [name for name in names if name in OVERRIDDEN]
    if not ignored and args.optim in OF_TORCH and names:
        heard = Trainer.get_optimizer_cls_and_kwargs(args)[1]
        ignored = [name for name in names if name not in heard]
    if ignored:
        instead = [ARGUMENTS[name] for name in ignored if name in ARGUMENTS]
        raise ValueError(
            f"optim_args has {', '.join(ignored)}, which has no effect on optim={OptimizerNames(args.optim).value!r}; "
            + (f"use the argument {', '.join(instead)} instead." if instead else "leave it out.")
        )
