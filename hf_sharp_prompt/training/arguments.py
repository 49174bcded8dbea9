from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from .. import objectives, sharpness
from ..compat.accelerate import find_fsdp_settings
from ..data import tail_classes
from ..data.loading import load_class_names
from ..hyperparameters import nearest
from ..objectives import Objective, long_tail
from ..objectives.class_names import is_list_of_class_names
from ..sharpness import SharpnessRule
from ..sharpness.schedule import RHO_SCHEDULES
from ..sharpness.step.sharpness_aware import M_SHARPNESS
from .epoch_schedule import EPOCH_SCHEDULES
from .optim_args import check_optim_args


FROM_CLASS_COUNTS: dict[str, Callable[[Sequence[int]], Any]] = {"tail_classes": tail_classes, "class_counts": list}
"""Hyperparameter of a sharpness rule → what makes it of the training samples of each class."""

CLASS_SAMPLING = {"class_balanced": 0.0, "square_root": 0.5}
"""Sampling strategy → exponent of [`~data.ClassFrequencySampler`]."""

OPTIMIZERS_THAT_STEP_ALONE = (
    OptimizerNames.LOMO,
    OptimizerNames.ADALOMO,
    OptimizerNames.GALORE_ADAMW_LAYERWISE,
    OptimizerNames.GALORE_ADAMW_8BIT_LAYERWISE,
    OptimizerNames.GALORE_ADAFACTOR_LAYERWISE,
    OptimizerNames.APOLLO_ADAMW_LAYERWISE,
)

CHOOSING_THE_BEST = (
    *("eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "save_strategy", "save_steps"),
    *("metric_for_best_model", "greater_is_better"),
)
"""The arguments that change what a run ends with only where `load_best_model_at_end` is set."""

NOT_IDENTIFYING = (
    # What runs are called, and where they are written, logged and published.
    *("output_dir", "run_name", "project", "dataset_name", "report_to", "disable_tqdm"),
    *("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
    *("logging_strategy", "logging_steps", "logging_first_step", "logging_nan_inf_filter"),
    *("log_on_each_node", "log_level", "log_level_replica", "include_num_input_tokens_seen"),
    *("save_only_model", "save_on_each_node", "save_total_limit", "enable_jit_checkpoint"),
    *("push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push"),
    *("hub_revision", "hub_subfolder"),
    # How a run is measured without changing what is measured.
    *("per_device_eval_batch_size", "prediction_loss_only", "eval_do_concat_batches", "eval_use_gather_object"),
    *("eval_accumulation_steps", "include_for_metrics", "batch_eval_metrics", "skip_memory_metrics", "debug"),
    # How the same steps are computed: workers, memory, devices.
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers"),
    *("dataloader_prefetch_factor", "dataloader_multiprocessing_context"),
    *("activation_checkpointing", "activation_checkpointing_kwargs"),
    *("gradient_checkpointing", "gradient_checkpointing_kwargs", "torch_empty_cache_steps", "use_cache"),
    *("use_cpu", "full_determinism", "local_rank", "ddp_find_unused_parameters", "ddp_bucket_cap_mb"),
    *("ddp_broadcast_buffers", "ddp_static_graph", "ddp_backend", "ddp_timeout"),
    # What a script does besides training.
    *("do_train", "do_eval", "do_predict", "resume_from_checkpoint", "restore_callback_states_from_checkpoint"),
)
"""The arguments that cannot change what a run ends with."""


@dataclass
class SharpPromptTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` and what a sharpness-aware run needs besides.

    Args:
        sharpness (`str`, defaults to `"sam"`):
            The sharpness rule, one of `hf_sharp_prompt.sharpness.names()`; `"none"` is plain training. `"saf"` and
            `"mesa"` are objectives: with them, `objectives` gets the one that is named, with `sharpness_args` as its
            hyperparameters, and `sharpness` becomes `"none"`.
        sharpness_args (`dict`, *optional*):
            The rule's hyperparameters, e.g. `{"rho": 0.1}`, as a dict or as JSON; the others take the values of
            the rule's paper. `imbsam`'s tail classes are by default those with fewer than 20 training samples, and
            `focalsam`'s class counts those of the training samples.
        rho_schedule (`str`, defaults to `"constant"`):
            How the perturbation radius goes over the run: `"constant"`, `"linear"` or `"cosine"` to zero, or
            `"learning_rate"`, proportional to it (as GSAM's paper).
        objectives (`dict` or `list`, *optional*):
            What is minimised besides the model's loss: names of `hf_sharp_prompt.objectives.names()` and their
            hyperparameters, e.g. `{"kgcoop": {"weight": 8.0}, "nfl": {"novel_class_names": "names.txt"}}`, or a list
            of names, or one; as JSON on the command line. They go with every sharpness rule. `novel_class_names` may
            be a data set, as `load_image_dataset` takes it, whose class names are read when training begins.
        hub_subfolder (`str`, *optional*):
            The folder of the repository that the adapter is pushed into, such as `"gcscoop/seed1"`, so that one
            repository holds several; by default its top. `PeftModel.from_pretrained(…, subfolder=…)` loads it.
        subspace_epochs (`int`, *optional*), subspace_rank (`int`, *optional*):
            SubPT: train this many epochs, find the subspace of this rank that the parameters moved in, start again
            and follow directions only within it (paper: 10 epochs and rank 5 for 1 shot, 30 and 10 for 4 shots and
            base-to-novel, 50 and 10 for 16 shots). By default directions are followed as they are.
        m_sharpness (`str`, defaults to `"batch"`):
            Over what the rule is applied: the step's whole `"batch"`; or each `"micro_batch"`, or each `"process"`'s
            share of the batch, alone, and the mean of their directions is followed.
        reweighting_epochs (`list[int]`, *optional*):
            The epochs, from 0, at whose beginning the classes are weighted again: from the first on `reweighting_beta`
            holds, and at each `gnm` halves its noise.
        reweighting_beta (`float`, *optional*):
            β of the class weights by effective number, `(1-β)/(1-β^n_c)` (LDAM: 0.9999, RSAM-PT: 0.9998); the loss is
            the weighted mean over the step's whole batch. They hold from the first of `reweighting_epochs` on, which
            is DRW, or in the whole run where there are none. By default all classes weigh the same.
        loss (`str`, *optional*), loss_args (`dict`, *optional*):
            A loss for long tails instead of the model's own: one of `hf_sharp_prompt.objectives.long_tail.names()`
            and its hyperparameters, as a dict or as JSON. Evaluation reports plain cross entropy. The scales of
            `gcl` and `ldam` are to be that of the model's cosine head.
        class_counts (`list[int]`, *optional*):
            The training samples of each class, by label. By default they are counted, which takes a `datasets.Dataset`
            with a column `label` or [`~data.ImageFeatures`].
        train_sampling_strategy (`str`, defaults to `"random"`):
            As for the Trainer; besides, `"class_balanced"` draws every class equally often, and `"square_root"` in
            proportion to the square root of its number of samples, both with replacement.
        epoch_schedule (`str`, defaults to `"none"`):
            A learning rate that changes where an epoch begins, instead of with every step as `lr_scheduler_type` has
            it. `"cosine"`, as Dassl and so the code of CoOp and its successors has it: of E epochs, counted from 0,
            epoch e ≥ 1 has `learning_rate · (1 + cos(π · (e-1) / E)) / 2` ([`~epoch_schedule.EpochCosine`]).
        first_epoch_learning_rate (`float`, *optional*):
            The learning rate of epoch 0 under an `epoch_schedule` (Dassl: 1e-5); by default `learning_rate`.
        drop_last_train_batch (`bool`, defaults to `False`):
            Leave out the samples at an epoch's end that would not fill the batch of a whole step, over all its
            micro-batches and processes, unless no batch would be left. This is what Dassl does in training;
            `dataloader_drop_last` drops batches in evaluation as well, and an epoch's only one.
        dataset_name (`str`, *optional*):
            What the training data is called, for the model card.

    `weight_decay` holds for all that is trained, biases and norms included, as in the code of the methods here. An
    entry of `optim_args` that would have no effect is refused; `learning_rate` and `weight_decay` have separate
    arguments.

    Some inherited arguments have other defaults: `label_names` is `["labels"]`; `dataloader_pin_memory` is whether
    there is an accelerator to copy to; `logging_nan_inf_filter` is `False`, since a loss that is not finite ends the
    run; and `remove_unused_columns` is `False`, since images only become `pixel_values` when a batch is made of them.
    Where several processes are started on a machine without an accelerator, they train on its CPU together.

    Images are decoded and augmented where batches are made, which with the Trainer's default of no workers is the
    training process, and there the GPU waits for it. When training on pixels, set `dataloader_num_workers` to the
    number of cores per process (8 are often enough), and `dataloader_persistent_workers=True` so that epochs begin
    without starting them. Neither changes a run: what is drawn at random for a batch, such as crops, is of the seed,
    the epoch and its samples alone, also after a resume. Features ([`~data.ImageFeatures`]) need no workers.

    Raises:
        ValueError: An unknown rule or hyperparameter, or a value outside its range; several processes that cannot be
            made one run; an argument of transformers that has no meaning here.
    """

    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "sharpness_args", "objectives", "loss_args"]

    sharpness: str = field(
        default="sam",
        metadata={
            "help": f"The sharpness rule: {', '.join((*sharpness.names(), *objectives.sharpness_aware_names()))}; "
            "none is plain training."
        },
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
    objectives: dict | str | list | None = field(
        default=None,
        metadata={
            "help": f"What is minimised besides the loss, of {', '.join(objectives.names())}: a name, or JSON, e.g. "
            '\'{"kgcoop": {"weight": 8.0}}\' or \'["kgcoop", "nfl"]\'.'
        },
    )
    subspace_epochs: int | None = field(
        default=None, metadata={"help": "Epochs after which SubPT finds its subspace and starts again."}
    )
    hub_subfolder: str | None = field(
        default=None, metadata={"help": "The folder of the repository that the adapter is pushed into."}
    )
    subspace_rank: int | None = field(default=None, metadata={"help": "The dimension of SubPT's subspace."})
    m_sharpness: str = field(
        default="batch",
        metadata={
            "help": "Over what the rule is applied: the whole batch, or each micro_batch or process alone.",
            "choices": list(M_SHARPNESS),
        },
    )
    reweighting_epochs: list[int] | None = field(
        default=None, metadata={"help": "Epochs, from 0, at whose beginning the classes are weighted again."}
    )
    reweighting_beta: float | None = field(
        default=None,
        metadata={"help": "Beta of the class weights from the first of reweighting_epochs on; default: all equal."},
    )
    loss: str | None = field(
        default=None,
        metadata={
            "help": f"A loss for long tails instead of the model's own: {', '.join(long_tail.names())}.",
        },
    )
    loss_args: dict | str | None = field(
        default=None,
        metadata={"help": "The loss's hyperparameters as JSON, e.g. '{\"margin\": 0.1}'; by default its paper's."},
    )
    class_counts: list[int] | None = field(
        default=None, metadata={"help": "Training samples of each class, by label. Default: counted."}
    )
    train_sampling_strategy: str = field(
        default="random",
        metadata={
            "help": "How training samples are drawn: the Trainer's ways, every class equally often (class_balanced), "
            "or by the square root of the classes' sizes (square_root).",
            "choices": ["random", "sequential", "group_by_length", "batch_rebalance", *CLASS_SAMPLING],
        },
    )
    epoch_schedule: str = field(
        default="none",
        metadata={
            "help": "A learning rate that changes where an epoch begins, instead of lr_scheduler_type: cosine, as in "
            "Dassl, or none.",
            "choices": list(EPOCH_SCHEDULES),
        },
    )
    first_epoch_learning_rate: float | None = field(
        default=None,
        metadata={"help": "The learning rate of epoch 0 under an epoch_schedule. Default: learning_rate."},
    )
    drop_last_train_batch: bool = field(
        default=False,
        metadata={"help": "Leave out the samples at an epoch's end that would not fill a batch, unless none is left."},
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

    dataloader_pin_memory: bool | None = field(  # type: ignore[assignment]  # None until __post_init__ decides
        default=None, metadata={"help": "Pin batches in memory. Default: where there is an accelerator to copy to."}
    )
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Leave losses that are not finite out of the logs."}
    )

    def __post_init__(self) -> None:
        processes = int(os.environ.get("WORLD_SIZE", 1))
        # Accelerate makes one run of processes on CPUs only where it is told that there is nothing else.
        self.use_cpu |= processes > 1 and not torch.accelerator.is_available()
        super().__post_init__()
        if self.world_size == 1 < processes:
            raise ValueError(
                f"{processes} processes were started, but each would train alone and write to {self.output_dir}: "
                f"Accelerate knows no way to join processes on {self.device.type}. Start one process, or set use_cpu."
            )
        if self.dataloader_pin_memory is None:
            self.dataloader_pin_memory = self.device.type not in ("cpu", "mps")
        self._refuse_arguments()
        # For their complaints, before anything is loaded.
        for name, example in (("sharpness_args", "rho"), ("loss_args", "margin")):
            if isinstance(value := getattr(self, name), str):
                raise ValueError(f"{name} must be a JSON object such as '{{\"{example}\": 0.1}}', got {value!r}.")
        self._translate_objective_chosen_as_sharpness()
        self.make_sharpness_rule(class_counts=[1])
        self._create_objectives(self._read_objectives())
        self._check_subspace()
        self._check_reweighting_epochs()
        self._check_loss()
        self._check_epoch_schedule()
        check_optim_args(self)
        check_subfolder(self.hub_subfolder)

    @property
    def arguments_that_need_a_length(self) -> list[str]:
        """The names of the arguments in use that need the number of samples of an epoch."""
        return ["epoch_schedule"] * (self.epoch_schedule != "none") + (
            ["drop_last_train_batch"] * self.drop_last_train_batch
        )

    def _check_epoch_schedule(self) -> None:
        schedule = self.epoch_schedule
        if schedule not in EPOCH_SCHEDULES:
            raise ValueError(
                f"There is no epoch_schedule {schedule!r}{nearest(str(schedule), EPOCH_SCHEDULES)} Choose one of: "
                f"{', '.join(EPOCH_SCHEDULES)}."
            )
        first = self.first_epoch_learning_rate
        if first is not None and not (math.isfinite(first) and first >= 0):
            raise ValueError(f"first_epoch_learning_rate must be a finite number >= 0, got {first!r}.")
        if schedule == "none":
            if first is not None:
                raise ValueError(
                    "first_epoch_learning_rate is set but epoch_schedule is not; set epoch_schedule='cosine', or use "
                    "warmup_steps."
                )
            return
        per_step = [name for name in ("warmup_steps", "lr_scheduler_kwargs") if getattr(self, name)]
        if self.lr_scheduler_type != SchedulerType.LINEAR:  # the default
            per_step.append("lr_scheduler_type")
        if per_step:
            raise ValueError(
                f"epoch_schedule={schedule!r} replaces the schedule of steps, to which "
                f"{', '.join(per_step)} belongs; leave that out, or set epoch_schedule='none'."
            )

    def _refuse_arguments(self) -> None:
        """Refuse arguments of transformers that would be ignored, or fail somewhere else."""
        if self.num_train_epochs <= 0 and self.max_steps <= 0:
            raise ValueError(
                f"num_train_epochs must be above 0, got {self.num_train_epochs:g}; to evaluate without training call "
                "evaluate() and leave train() out."
            )
        refused = {
            "neftune_noise_alpha": "adds noise to embeddings of text that images do not have; leave it out",
            "fsdp": "shards all parameters, and rules need whole gradients of those that train; leave it out and use "
            "`accelerate launch --use_fsdp --fsdp_version 2`, which here shards the frozen layers alone",
            "deepspeed": "runs the backward pass itself, and rules need gradients at several points; use plain data "
            "parallelism",
            "parallelism_config": "shards the model or its inputs, and rules need whole gradients; use plain data "
            "parallelism",
            "include_num_input_tokens_seen": "counts tokens of text, which images do not have; leave it out",
            "use_liger_kernel": "replaces kernels of language models, which CLIP and ViT are not; leave it out",
        }
        for name, why in refused.items():
            if getattr(self, name) not in (None, False, "", "no"):
                raise ValueError(f"{name} {why}.")
        if find_fsdp_settings() is not None and (self.bf16_full_eval or self.fp16_full_eval):
            raise ValueError(
                "bf16_full_eval and fp16_full_eval cast the whole model on each device, and --use_fsdp shards it; "
                "load the model in that precision instead."
            )
        if self.optim in OPTIMIZERS_THAT_STEP_ALONE:
            raise ValueError(
                f"optim={OptimizerNames(self.optim).value!r} takes its step within the backward pass, of which rules "
                "need several for a step; choose another, such as 'sgd' or 'adamw_torch'."
            )

    def identity(self) -> dict[str, Any]:
        """Return what makes two runs the same run, so that one may be continued as the other.

        Every argument counts except those of `NOT_IDENTIFYING`, and those of `CHOOSING_THE_BEST` where the best model
        is not loaded at the end.

        Returns:
            The arguments' values by name, and `world_size`, the number of processes; as JSON gives them back.
        """
        ignored = set(NOT_IDENTIFYING) | (set() if self.load_best_model_at_end else set(CHOOSING_THE_BEST))
        values = {name: value for name, value in self.to_dict().items() if name not in ignored}
        values |= {"objectives": self._read_objectives(), "world_size": self.world_size}
        return json.loads(json.dumps(values, default=_as_json))

    def _check_subspace(self) -> None:
        epochs, rank = self.subspace_epochs, self.subspace_rank
        if (epochs is None) != (rank is None):
            present, missing = ("subspace_epochs", "subspace_rank")[:: 1 if rank is None else -1]
            raise ValueError(f"{present} is set but {missing} is not; a subspace needs both.")
        if epochs is not None and rank is not None and not 1 <= rank < epochs:
            raise ValueError(
                f"subspace_rank must be from 1 to {epochs - 1}, got {rank}: the {epochs} snapshots of subspace_epochs="
                f"{epochs}, one per epoch, span one dimension less about their mean."
            )

    @property
    def needs_class_counts(self) -> bool:
        """True if the training samples of each class must be known."""
        return self.changes_loss or bool(self._left_to_counts)

    @property
    def changes_loss(self) -> bool:
        """True if another loss than the model's own is minimised."""
        return bool(self.arguments_that_choose_a_loss)

    @property
    def arguments_that_choose_a_loss(self) -> list[str]:
        """The arguments in use that replace the model's own loss.

        A rule that weighs the classes is one of them, since it needs the loss of each sample.
        """
        choosing = {
            "loss": self.loss is not None,
            "reweighting_beta": self.reweighting_beta is not None,
            f"sharpness={self.sharpness!r}": self.sharpness_rule.weighs_classes,
        }
        return [name for name, chooses in choosing.items() if chooses]

    @property
    def given_class_counts(self) -> Sequence[int] | None:
        """The training samples of each class as `class_counts` or, without it, `sharpness_args` gives them."""
        return self.class_counts if self.class_counts is not None else self._sharpness_args.get("class_counts")

    @property
    def _sharpness_args(self) -> dict[str, Any]:
        return _as_dict(self.sharpness_args)

    @property
    def sharpness_rule(self) -> type[SharpnessRule]:
        """The kind of the sharpness rule."""
        return SharpnessRule.registry.find(self.sharpness)

    @property
    def _left_to_counts(self) -> list[str]:
        """The rule's hyperparameters that the classes' counts give, where `sharpness_args` does not."""
        fields = self.sharpness_rule.__dataclass_fields__  # type: ignore[attr-defined]  # rules are dataclasses
        return [name for name in FROM_CLASS_COUNTS if name in fields and name not in self._sharpness_args]

    def make_sharpness_rule(self, class_counts: Sequence[int] | None = None) -> SharpnessRule:
        """Make a new rule with the hyperparameters of `sharpness_args`.

        Args:
            class_counts: The training samples of each class, for rules that need them where `sharpness_args` does not
                have what follows from them.
        """
        found = {}
        if class_counts is not None:
            found = {name: FROM_CLASS_COUNTS[name](class_counts) for name in self._left_to_counts}
        return sharpness.create(self.sharpness, **self._sharpness_args, **found)

    def make_loss(self, class_counts: Sequence[int]) -> long_tail.LongTailLoss:
        """Make a new loss with the hyperparameters of `loss_args`: cross entropy, where only the weights change.

        Args:
            class_counts: The training samples of each class, by label.
        """
        return long_tail.create(self.loss or "cross_entropy", class_counts, **_as_dict(self.loss_args))

    def class_weights(self, class_counts: Sequence[int]) -> torch.Tensor | None:
        """Return the weight of each class once they are re-weighted; None if they never are."""
        if self.reweighting_beta is None:
            return None
        return long_tail.effective_number_weights(class_counts, self.reweighting_beta)

    def find_reweighting_stage(self, epoch: int) -> int:
        """Return how many times the classes have been re-weighted in an epoch, counted from 0."""
        return sum(epoch >= each for each in self.reweighting_epochs or ())

    def make_objectives(self) -> list[Objective]:
        """Make new objectives, as `objectives` chooses them."""
        chosen = self._read_objectives()
        return self._create_objectives({name: _with_class_names(values or {}) for name, values in chosen.items()})

    @staticmethod
    def _create_objectives(chosen: dict[str, dict[str, Any] | None]) -> list[Objective]:
        return [objectives.create(name, **(hyperparameters or {})) for name, hyperparameters in chosen.items()]

    def _translate_objective_chosen_as_sharpness(self) -> None:
        """Turn `sharpness="saf"` into the objective `saf` without a sharpness rule."""
        if self.sharpness not in objectives.sharpness_aware_names():
            return
        chosen = self._read_objectives()
        if self.sharpness in chosen:
            raise ValueError(f"{self.sharpness} is chosen twice, by sharpness and by objectives; drop one.")
        self.objectives = {self.sharpness: self.sharpness_args or {}, **chosen}
        self.sharpness, self.sharpness_args = "none", None

    def _read_objectives(self) -> dict[str, dict[str, Any] | None]:
        """Return the hyperparameters by name, whichever form `objectives` has."""
        chosen: Any = self.objectives or {}
        if isinstance(chosen, str):
            chosen = json.loads(chosen) if chosen.startswith("[") else [chosen]
        if not isinstance(chosen, dict):
            if repeated := sorted({str(name) for name in chosen if chosen.count(name) > 1}):
                raise ValueError(f"objectives must differ, but these stand more than once: {', '.join(repeated)}.")
            chosen = dict.fromkeys(chosen)
        for name, hyperparameters in chosen.items():
            if not isinstance(hyperparameters, dict | None):
                raise ValueError(
                    f"objectives must map names to their hyperparameters, e.g. {{'kgcoop': {{'weight': 8.0}}}}; for "
                    f"{name!r} there is {hyperparameters!r}."
                )
        return chosen

    def _check_reweighting_epochs(self) -> None:
        epochs = self.reweighting_epochs or ()
        if any(isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0 for epoch in epochs):
            raise ValueError(f"reweighting_epochs must be whole numbers from 0 on, got {epochs!r}.")
        if self.max_steps <= 0 and max(epochs, default=0) >= self.num_train_epochs > 0:
            raise ValueError(
                f"reweighting_epochs has {max(epochs)}, but the last of {self.num_train_epochs:g} epochs, counted "
                f"from 0, is {math.ceil(self.num_train_epochs) - 1}."
            )

    def _check_loss(self) -> None:
        if self.loss is None and self.loss_args is not None:
            raise ValueError(
                f"loss_args is set but loss is not; choose one of {', '.join(long_tail.names())}, or drop loss_args."
            )
        if self.changes_loss and self.label_smoothing_factor:
            replacing = " and ".join(self.arguments_that_choose_a_loss)
            raise ValueError(
                f"label_smoothing_factor smooths the model's own loss, and {replacing} replaces it; drop one of them."
            )
        self.make_loss([1, 1])
        self.class_weights([1, 1])


def _as_dict(hyperparameters: dict | str | None) -> dict[str, Any]:
    """Return hyperparameters by name; `__post_init__` has refused text that is not JSON."""
    return hyperparameters if isinstance(hyperparameters, dict) else {}


def _with_class_names(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """Replace a data set in `novel_class_names` by the names of its classes."""
    names = hyperparameters.get("novel_class_names")
    if not names or not isinstance(names, str) or is_list_of_class_names(names):
        return hyperparameters
    return {**hyperparameters, "novel_class_names": load_class_names(names)}


def _as_json(value: Any) -> Any:
    """Return an enum's value, an array's numbers, or else the text of a value that `json` does not know."""
    if isinstance(value, Enum):
        return value.value
    return value.tolist() if hasattr(value, "tolist") else str(value)


def check_subfolder(subfolder: str | None) -> None:
    """Check that a name is a folder inside a repository.

    Raises:
        ValueError: It is not.
    """
    if subfolder is not None and not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", subfolder):
        raise ValueError(
            f"hub_subfolder must name a folder of the repository, such as 'gcscoop/seed1', got {subfolder!r}."
        )
