from __future__ import annotations

from dataclasses import dataclass, field

from transformers import TrainingArguments

from . import sharpness
from .sharpness.schedule import RHO_SCHEDULES


@dataclass
class SharpPromptTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` and what a sharpness-aware run needs besides.

    Args:
        sharpness (`str`, defaults to `"sam"`):
            The sharpness rule, one of `hf_sharp_prompt.sharpness.names()`; `"none"` is plain training.
        sharpness_args (`dict`, *optional*):
            The rule's hyperparameters, e.g. `{"rho": 0.1}`, as a dict or as JSON; those not given take the values of
            the rule's paper.
        rho_schedule (`str`, defaults to `"constant"`):
            How the perturbation radius goes over the run: `"constant"`, `"linear"` or `"cosine"` to zero, or
            `"learning_rate"`, proportional to it (as GSAM's paper).
        dataset_name (`str`, *optional*):
            What the training data is called, for the model card.

    Of the inherited arguments, `label_names` defaults to `["labels"]` and `remove_unused_columns` to `False`, since
    images only become `pixel_values` when a batch is made of them.

    Images are decoded and augmented where batches are made, which with the Trainer's default of no workers is the
    training process, and there the GPU waits for it. When training on pixels, set `dataloader_num_workers` to the
    number of cores per process (8 are often enough), and `dataloader_persistent_workers=True` so that epochs begin
    without starting them; a resumed run then draws other random crops than one that was never interrupted, where
    workers that start with each epoch draw the same. Features ([`~data.ImageFeatures`]) need no workers.

    Raises:
        ValueError: An unknown rule or hyperparameter, or a value outside its range.
    """

    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "sharpness_args"]

    sharpness: str = field(
        default="sam",
        metadata={"help": f"The sharpness rule: {', '.join(sharpness.names())}; none is plain training."},
    )
    sharpness_args: dict | str | None = field(
        default=None,
        metadata={"help": "The rule's hyperparameters as JSON, e.g. '{\"rho\": 0.1}'; by default its paper's."},
    )
    rho_schedule: str = field(
        default="constant",
        metadata={
            "help": "How rho goes over the run: constant, linear or cosine to zero, or with the learning_rate.",
            "choices": list(RHO_SCHEDULES),
        },
    )
    dataset_name: str | None = field(
        default=None, metadata={"help": "What the training data is called, for the model card."}
    )
    label_names: list[str] | None = field(
        default_factory=lambda: ["labels"], metadata={"help": "The inputs that are labels."}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Remove the columns that the model's forward does not name."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.make_sharpness_rule()  # for its complaints, before anything is loaded

    def make_sharpness_rule(self) -> sharpness.SharpnessRule:
        """A fresh rule with the hyperparameters of `sharpness_args`."""
        if isinstance(self.sharpness_args, str):
            raise ValueError(
                f"sharpness_args must be a JSON object such as '{{\"rho\": 0.1}}', got {self.sharpness_args!r}."
            )
        return sharpness.create(self.sharpness, **(self.sharpness_args or {}))
