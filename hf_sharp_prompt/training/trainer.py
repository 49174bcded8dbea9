from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import (
    BaseImageProcessor,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    TrainerCallback,
    set_seed,
)
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput, TrainOutput

from ..data import ImageCollator, class_counts
from ..objectives import Batch, ConstrainingObjective, ObjectiveSum
from ..objectives.batch import logits_of
from ..objectives.labels import IGNORED, counted, ignore
from ..objectives.long_tail import LongTailLoss, weighted_cross_entropy
from ..sharpness import Backward, Constraint, SharpnessAware
from ..sharpness.rule import SampleMask
from ..sharpness.subspace import Subspace
from .arguments import SharpPromptTrainingArguments
from .batches import SeededTrainer
from .callbacks import ReweightingInTheRun, StepsTaken
from .checkpoint import (
    TRAINER_STATE_NAME,
    checkpoints_of,
    choose_checkpoint,
    discard_interrupted,
    load_state,
    replace_files,
    save_state,
    was_interrupted,
    write_manifest,
)
from .draws import SAMPLE_INDEX
from .epoch_schedule import EpochCosine
from .finiteness import FinitenessCheck
from .model_card import model_card, write_cards_of
from .push import PushingTrainer
from .subspace_stage import SNAPSHOTS_NAME, EarlyStage, Restart, load_subspace, save_subspace


FROZEN_IMAGE_FEATURES = "frozen_image_features"


class SharpPromptTrainer(PushingTrainer, SeededTrainer):
    """A `transformers.Trainer` whose steps follow a sharpness rule's direction.

    One optimizer step's micro-batches, over all processes, form one batch, and the rule runs once per step over all of
    it; `m_sharpness` asks for other scopes. Samples that Accelerate repeats to fill the last processes' shares do not
    count, where the loss is divided by `num_items_in_batch`. Everything else is the Trainer's: its arguments,
    callbacks, checkpoints, logs and launchers.

    Logged besides the Trainer's own values: `gradient_norm` ‖g‖ (`grad_norm` is that of the followed direction) and,
    of rules that look elsewhere, `perturbed_loss`, `sharpness` (its difference to `loss`), `cosine` cos(g, g_p) and
    what the rule reports; of objectives such as `saf` their part of the loss, `saf_loss`; of those that constrain the
    direction, `prograd_cosine` of it and their gradient, and `prograd_conflicts`, how often that was negative.

    Args:
        model: A model with a prompt adapter (or any other that the Trainer takes).
        args: [`SharpPromptTrainingArguments`].
        data_collator: As for the Trainer. By default, with an image processor as `processing_class`, batches are made
            of `image` and `label` columns by [`ImageCollator`].
        **kwargs: As for the Trainer.

    Raises:
        ValueError: Two losses. When training starts: nothing to train, class counts that are not those of the data or
            cannot be seen, a re-weighting epoch that the run does not reach, or an engine that owns the backward pass
            (DeepSpeed), shards parameters (FSDP) or replicates the model within a process (DataParallel).
    """

    args: SharpPromptTrainingArguments
    sharpness: SharpnessAware | None = None  # once training has begun
    _finiteness: FinitenessCheck | None = None
    _early_stage: EarlyStage | None = None
    _constraint: ConstrainingObjective | None = None  # whose term is evaluated now, instead of the loss
    _loss: LongTailLoss | None = None  # of training, if not the model's own
    _class_weights: torch.Tensor | None = None  # once the classes are re-weighted

    def __init__(
        self,
        model: nn.Module | None = None,
        args: SharpPromptTrainingArguments | None = None,
        data_collator: Callable[[list[Any]], dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        args = args if args is not None else SharpPromptTrainingArguments(output_dir="tmp_trainer")
        processor = kwargs.get("processing_class")
        if data_collator is None and isinstance(processor, ProcessorMixin | BaseImageProcessor):
            data_collator = ImageCollator(processor)
        if args.changes_loss:
            if kwargs.get("compute_loss_func") is not None:
                raise ValueError(
                    "compute_loss_func and the arguments loss or reweighting_beta each choose a loss; drop one."
                )
            kwargs["compute_loss_func"] = self._compute_long_tail_loss
        super().__init__(model, args, data_collator, **kwargs)
        self.objectives = ObjectiveSum(args.make_objectives(), self.accelerator)
        self.subspace: Subspace | None = None
        self.add_callback(StepsTaken(self))
        self.add_callback(ReweightingInTheRun())

    @property
    def remembering_samples(self) -> list[str]:
        """The names of the objectives that do."""
        return self.objectives.remembering_samples

    def _count_classes(self) -> list[int] | None:
        """The training samples of each class, where they have to be known."""
        given = self.args.class_counts
        if not self.args.needs_class_counts:
            return None
        try:
            counted = class_counts(self.train_dataset)
        except ValueError as error:
            if given is not None:
                return given
            raise ValueError(f"{error} Or say class_counts in the training arguments.") from error
        if given not in (None, counted):
            raise ValueError(
                f"class_counts is {_shortened(given)}, but the train dataset has {_shortened(counted)}; leave "
                "class_counts out."
            )
        return counted

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer, and what puts the rule's direction in front of it."""
        if self.args.n_gpu > 1:
            raise ValueError(
                "Sharpness rules do not run in one process over several GPUs (torch.nn.DataParallel). Start one "
                "process per GPU with `accelerate launch`, or show the process one GPU with CUDA_VISIBLE_DEVICES=0."
            )
        optimizer = super().create_optimizer(model)
        counts = self._count_classes()
        if self.args.changes_loss:
            self._loss, self._class_weights = self.args.make_loss(counts), self.args.class_weights(counts)
        self.sharpness = SharpnessAware(
            self.args.make_sharpness_rule(counts),
            self.model,
            accelerator=self.accelerator,
            optimizer=optimizer,
            rho_schedule=self.args.rho_schedule,
            m_sharpness=self.args.m_sharpness,
            seed=self.args.seed,
            subspace=self.subspace,
        )
        self.objectives = ObjectiveSum(self.args.make_objectives(), self.accelerator)
        self.objectives.begin_run(self.model, self._tokenizer)
        self._finiteness = FinitenessCheck(self.sharpness)
        self._micro_batches: list[dict[str, Any]] = []
        self._normalises_over_batch = any(isinstance(module, _BatchNorm) for module in self.model.modules())
        write_cards_of(self)
        return optimizer

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """All of them: the code of the methods here decays all that is trained, biases and norms included."""
        return [name for name, _ in model.named_parameters()]

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Make the scheduler, one of epochs where `epoch_schedule` asks for it."""
        if self.args.epoch_schedule == "none" or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        epochs = self.state.num_train_epochs or self.args.num_train_epochs
        self.lr_scheduler = EpochCosine(
            self.optimizer if optimizer is None else optimizer, epochs, self.args.first_epoch_learning_rate
        )
        self._created_lr_scheduler = True  # so that the next call of train makes another
        return self.lr_scheduler

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor | Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Hold the micro-batch back until the step's last, then put the direction over all of them in `.grad`."""
        self._micro_batches.append(self._with_image_features(inputs))
        if not self.accelerator.sync_gradients:
            return torch.zeros((), device=self.args.device)
        micro_batches, self._micro_batches = self._micro_batches, []
        forward_and_backward = super().training_step

        def backward_pass(batch: dict[str, Any], sample_mask: SampleMask | None = None) -> Backward:
            if sample_mask is not None and num_items_in_batch is None:
                raise ValueError(
                    f"The rule {self.args.sharpness!r} tells classes apart, so the loss of a part of the batch is "
                    "divided by the size of the whole: the model's forward must take num_items_in_batch, or else give "
                    "the Trainer a compute_loss_func, which does."
                )
            counted = batch if sample_mask is None else self._only(batch, sample_mask)
            return Backward(forward_and_backward(model, counted, num_items_in_batch))

        def backward_pass_of(constraint: ConstrainingObjective, sample_mask: SampleMask | None = None) -> Backward:
            self._constraint = constraint
            try:
                return Backward(sum(backward_pass(batch, sample_mask).loss for batch in micro_batches))
            finally:
                self._constraint = None

        passes = [partial(backward_pass, batch) for batch in micro_batches]
        constraints = [
            Constraint(each.name, partial(backward_pass_of, each), each.constrain)
            for each in self.objectives.constraints
        ]
        size, shares = self._size_of_batch(num_items_in_batch), None
        if size is not None and self.args.m_sharpness != "batch":
            shares = [float(counted(batch["labels"]).sum()) / float(size) for batch in micro_batches]
        self.sharpness.progress = self.state.global_step / self.state.max_steps
        self.sharpness.epoch = int(self.state.epoch)
        reweighting_epochs = self.args.reweighting_epochs or ()
        self.sharpness.reweighting_stage = sum(self.sharpness.epoch >= epoch for epoch in reweighting_epochs)
        if self._loss is not None:
            reweighted = self.sharpness.reweighting_stage > 0 or not reweighting_epochs
            self._loss.weights = self._weights_in_batch(micro_batches, num_items_in_batch) if reweighted else None
        self.objectives.begin_step(model, self.sharpness.epoch)
        with self.accelerator.no_sync(model):  # reduced once per evaluation, as one tensor
            loss = self.sharpness.accumulate_direction(passes, shares, constraints)
        self._finiteness.see_step(self.state.global_step + 1, loss)
        return loss

    def _weights_in_batch(
        self, micro_batches: list[dict[str, Any]], num_items_in_batch: torch.Tensor | int
    ) -> torch.Tensor | None:
        """What each class weighs in this step: the samples of the whole batch weigh 1 on average."""
        if self._class_weights is None:
            return None
        labels = torch.cat([batch["labels"] for batch in micro_batches])
        weights = self._class_weights.to(labels.device)
        total = weights[labels[labels != IGNORED]].sum()
        if self.args.average_tokens_across_devices:
            total = self.accelerator.reduce(total, reduction="sum")
        return weights * num_items_in_batch / total

    def _only(self, batch: dict[str, Any], sample_mask: SampleMask) -> dict[str, Any]:
        """The samples of a batch that count, at least one; the others still do in the size of the batch.

        Where samples have a say in each other's losses all are run, and the others' labels ignored.
        """
        labels = batch["labels"]
        counts = sample_mask(labels)
        batch = {**batch, "labels": ignore(labels, ~counts)}
        if self._normalises_over_batch or {"pixel_values", "input_ids"} <= batch.keys():  # images compared with texts
            return batch
        rows = counts.nonzero()[:, 0] if counts.any() else counts.new_zeros(1, dtype=torch.long)
        return {
            name: value[rows] if torch.is_tensor(value) and value.shape[:1] == labels.shape else value
            for name, value in batch.items()
        }

    def _with_image_features(self, inputs: dict[str, torch.Tensor | Any]) -> dict[str, torch.Tensor | Any]:
        """Encode the images now where all gradient evaluations of the step would see the same of them."""
        inputs = self._prepare_inputs(inputs)
        if "pixel_values" not in inputs or "input_ids" in inputs or not hasattr(self.model, "encode_images"):
            return inputs
        frozen = self.model.sees_images_frozen
        if not frozen and not self.objectives.needs_frozen_images:
            return inputs
        with self.compute_loss_context_manager():
            features = self.model.encode_images(**inputs)
        if not frozen:
            return {**inputs, FROZEN_IMAGE_FEATURES: features}
        others = {name: value for name, value in inputs.items() if name not in self.model.image_input_names}
        return {**others, "image_features": features}

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """As the Trainer's; the classes' features are computed once for the run where only images are prompted."""
        frozen = getattr(self.model, "reads_texts_frozen", False)
        with self.model.keeping_class_features() if frozen else nullcontext():
            output = super()._inner_training_loop(*args, **kwargs)
        self._check_finiteness()
        return output

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """As the Trainer's, once it is known that there is something to log, to save or to evaluate."""
        if self.control.should_log or self.control.should_evaluate or self.control.should_save:
            self._check_finiteness()
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _check_finiteness(self) -> None:
        checkpoints = checkpoints_of(Path(self._get_output_dir(None)))
        kept = f"The last checkpoint, {checkpoints[0]}, is kept." if checkpoints else "Nothing of it is saved."
        self._finiteness.check(self.state.global_step, kept)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """As the Trainer's; the classes' features are computed once for all batches."""
        with getattr(self.model, "keeping_class_features", nullcontext)():
            return super().evaluation_loop(*args, **kwargs)

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, torch.Tensor | Any], *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """As the Trainer's; what metrics see as the inputs are the images, whatever the base model takes first."""
        predicted = super().prediction_step(model, inputs, *args, **kwargs)
        name = getattr(self.model, "main_input_name", "input_ids")
        if "inputs" in self.args.include_for_metrics and name not in inputs:
            inputs[name] = next(inputs[each] for each in ("pixel_values", "image_features") if each in inputs)
        return predicted

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """As the Trainer's, and in training the objectives' terms added."""
        inputs = dict(inputs)
        index, labels = inputs.pop(SAMPLE_INDEX, None), inputs.get("labels")
        frozen = inputs.pop(FROZEN_IMAGE_FEATURES, None)
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if self.objectives.objectives and model.training:
            size = self._size_of_batch(num_items_in_batch)
            batch = Batch(model, inputs, outputs, labels, index, size, frozen)
            term = self.objectives.term(batch, self._constraint)
            loss = loss + term if self._constraint is None else term
        return (loss, outputs) if return_outputs else loss

    def _compute_long_tail_loss(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """The loss that training minimises; of evaluation, where counts may be unknown, plain cross entropy."""
        loss = self._loss if self.model.training else weighted_cross_entropy
        return loss(logits_of(outputs), labels, num_items_in_batch=num_items_in_batch)

    @property
    def _tokenizer(self) -> PreTrainedTokenizerBase | ProcessorMixin | None:
        """The `processing_class`, if it tokenizes."""
        processor = self.processing_class
        return processor if isinstance(processor, PreTrainedTokenizerBase) or hasattr(processor, "tokenizer") else None

    def _size_of_batch(self, num_items_in_batch: torch.Tensor | int | None) -> torch.Tensor | float | None:
        """What the Trainer divides this process's losses by: the step's samples over the number of processes.

        None where it takes the mean of each micro-batch and over them.
        """
        if num_items_in_batch is None or not self.args.average_tokens_across_devices:
            return num_items_in_batch
        return num_items_in_batch / self.accelerator.num_processes

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the rule saw to the logs of training steps."""
        if "loss" in logs and self.sharpness is not None:
            logs |= {name: value for name, value in self.sharpness.pop_metrics().items() if name != "loss"}
            logs |= self.objectives.pop_metrics()
        super().log(logs, start_time)

    def train(self, resume_from_checkpoint: str | Path | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """As the Trainer's; resuming from the last checkpoint passes over those that are incomplete.

        With `subspace_epochs` the run has two stages, and may be resumed in either.

        Raises:
            ValueError: The checkpoint lacks what the run needs to end as if it had not been interrupted.
            FloatingPointError: The loss, its gradient or the parameters are not finite. No such state is saved.
        """
        if resume_from_checkpoint:
            resume_from_checkpoint = self._choose_checkpoint(resume_from_checkpoint)
        self.subspace = None
        if self.args.subspace_epochs is None:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        return self._train_in_subspace(resume_from_checkpoint, *args, **kwargs)

    def _choose_checkpoint(self, given: str | Path | bool) -> str | None:
        """Which checkpoint to go on from; those that an interrupted save left are removed."""
        directories = [Path(self.args.output_dir)]
        if self.args.subspace_epochs is not None:
            directories.append(self._early_directory)
        chosen = choose_checkpoint(given, directories, self.args.world_size)
        self.accelerator.wait_for_everyone()
        if given is True and self.is_world_process_zero():
            for directory in directories:
                discard_interrupted(directory)
        self.accelerator.wait_for_everyone()
        return None if chosen is None else str(chosen)

    def _train_in_subspace(self, checkpoint: str | None, *args: Any, **kwargs: Any) -> TrainOutput:
        """SubPT: see where the run moves in its first epochs, then start again and move only there."""
        if isinstance(checkpoint, str) and not Path(checkpoint, SNAPSHOTS_NAME).is_file():
            self.subspace = load_subspace(checkpoint, self.args.subspace_rank)
            output = super().train(checkpoint, *args, **kwargs)
        else:
            early = self._run_early_stage(checkpoint, *args, **kwargs)
            self.subspace = early.find_subspace(self.args.subspace_rank)
            set_seed(self.args.seed)
            with self._callback(Restart(self, early.initial)):
                output = super().train(None, *args, **kwargs)
        if self.is_world_process_zero():
            shutil.rmtree(self._early_directory, ignore_errors=True)
        return output

    def _run_early_stage(self, checkpoint: str | None, *args: Any, **kwargs: Any) -> EarlyStage:
        early = EarlyStage(self, self.args.subspace_epochs)
        if isinstance(checkpoint, str):
            early.load(checkpoint)
        if early.is_over:
            return early
        given = copy.deepcopy(self.optimizer.state_dict()) if self.optimizer is not None else None
        self._early_stage = early
        try:
            with self._callback(early):
                super().train(checkpoint, *args, **kwargs)
        finally:
            self._early_stage = None
        if given is None:
            self.optimizer = None  # to be made anew
        else:
            self.optimizer.load_state_dict(given)
        return early

    @contextmanager
    def _callback(self, callback: TrainerCallback) -> Iterator[None]:
        self.add_callback(callback)
        try:
            yield
        finally:
            self.remove_callback(callback)

    @property
    def _early_directory(self) -> Path:
        # The underscore keeps it from being pushed to the Hub.
        return Path(self.args.output_dir, "_early")

    def _get_output_dir(self, trial: Any) -> str:
        directory = super()._get_output_dir(trial)
        return directory if self._early_stage is None else os.path.join(directory, self._early_directory.name)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._early_stage is not None:
            return
        if isinstance(self.model, PeftModel) and self.is_world_process_zero():
            for name in self.model.peft_config:  # of adapters the Trainer copies the one called "default" alone
                if (adapter := Path(checkpoint_folder, name)).is_dir():
                    shutil.copytree(adapter, Path(self.args.output_dir, name), dirs_exist_ok=True)
        super()._push_from_checkpoint(checkpoint_folder)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write the card, `README.md`, of the trained prompts into the output directory.

        Takes the arguments of [`~transformers.Trainer.create_model_card`]; of these, `license`, `language`, `tags`,
        `model_name` and `dataset` enter the card.
        """
        if not isinstance(self.model, PeftModel):
            super().create_model_card(*args, **kwargs)
        elif self.is_world_process_zero():
            model_card(self, *args, **kwargs).save(os.path.join(self.args.output_dir, "README.md"))

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if not self.args.should_save:
            return
        if self._finiteness is not None:
            self._check_finiteness()
        # Written elsewhere first, so that a full disk or a crash leaves what is there as it was.
        target = Path(output_dir if output_dir is not None else self.args.output_dir)
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix="_saving-") as staging:
            super()._save(staging, state_dict)
            replace_files(Path(staging), target)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        checkpoint = Path(self._get_output_dir(trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        if self.args.should_save:  # where a run was resumed before a checkpoint of this step, that one is replaced
            (checkpoint / TRAINER_STATE_NAME).unlink(missing_ok=True)
        try:
            super()._save_checkpoint(model, trial)
        except BaseException:
            if was_interrupted(checkpoint):  # it is not when only pushing it, or removing older ones, failed
                shutil.rmtree(checkpoint, ignore_errors=True)
            raise

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:  # now that all is there but the Trainer's state, which is written last
            write_manifest(output_dir)

    def _load_best_model(self) -> None:
        """As the Trainer's, but wherever the adapters are saved: those not called "default" have folders of their own.

        Raises:
            ValueError: The best checkpoint is not there any more.
        """
        if isinstance(self.model, PeftModel):
            self._load_from_checkpoint(self.state.best_model_checkpoint)
        else:
            super()._load_best_model()

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            save_state(self.sharpness, self.objectives, output_dir)
            if self._early_stage is not None:
                self._early_stage.save(output_dir)
            if self.subspace is not None:
                save_subspace(self.subspace, output_dir)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            load_state(self.sharpness, self.objectives, checkpoint)


def _shortened(counts: list[int]) -> str:
    return f"[{', '.join(map(str, counts[:10]))}{', …' if len(counts) > 10 else ''}] ({len(counts)} classes)"
