from __future__ import annotations

import copy
import os
import shutil
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

from ..data import ImageCollator
from ..files import written_whole
from ..objectives import Batch, ConstrainingObjective, ObjectiveSum
from ..objectives.batch import logits_of
from ..objectives.labels import counted
from ..objectives.long_tail import weighted_cross_entropy
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
    save_state,
    was_interrupted,
    write_manifest,
)
from .class_weighting import ClassWeighting, count_classes
from .draws import SAMPLE_INDEX
from .epoch_schedule import EpochCosine
from .finiteness import FinitenessCheck
from .model_card import TrainedPrompt, model_card, write_cards_of
from .push import PushingTrainer
from .step import Evaluated, MicroBatch
from .subspace_stage import SNAPSHOTS_NAME, EarlyStage, Restart, load_subspace, save_subspace


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
    _evaluated: Evaluated | None = None  # within a backward pass
    _class_weighting: ClassWeighting | None = None  # if the loss is not the model's own

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
            kwargs["compute_loss_func"] = self._compute_weighted_loss
        super().__init__(model, args, data_collator, **kwargs)
        self.objectives = ObjectiveSum(args.make_objectives(), self.accelerator)
        self.subspace: Subspace | None = None
        self._steps_taken = StepsTaken(self.accelerator)
        self.add_callback(self._steps_taken)
        self.add_callback(ReweightingInTheRun())

    @property
    def remembering_samples(self) -> list[str]:
        """The names of the objectives that do."""
        return self.objectives.remembering_samples

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer, and what puts the rule's direction in front of it."""
        if self.args.n_gpu > 1:
            raise ValueError(
                "Sharpness rules do not run in one process over several GPUs (torch.nn.DataParallel). Start one "
                "process per GPU with `accelerate launch`, or show the process one GPU with CUDA_VISIBLE_DEVICES=0."
            )
        optimizer = super().create_optimizer(model)
        counts = count_classes(self.args, self.train_dataset)
        self._class_weighting = ClassWeighting(self.args, counts) if self.args.changes_loss else None
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
        self._steps_taken.begin_run(self.objectives, self._finiteness, is_early_stage=self._early_stage is not None)
        self._micro_batches: list[MicroBatch] = []
        self._normalises_over_batch = any(isinstance(module, _BatchNorm) for module in self.model.modules())
        if isinstance(self.model, PeftModel):
            write_cards_of(self.model, self._describe_prompt)
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
        self._micro_batches.append(self._encode_frozen_images(self._prepare_inputs(inputs)))
        if not self.accelerator.sync_gradients:
            return torch.zeros((), device=self.args.device)
        micro_batches, self._micro_batches = self._micro_batches, []
        self._begin_step(model, micro_batches, num_items_in_batch)
        run = partial(self._run_backward_pass, model, num_items_in_batch)
        passes = [partial(run, [each], None) for each in micro_batches]
        constraints = [
            Constraint(each.name, partial(run, micro_batches, each), each.constrain)
            for each in self.objectives.constraints
        ]
        with self.accelerator.no_sync(model):  # reduced once per evaluation, as one tensor
            shares = self._shares(micro_batches, num_items_in_batch)
            loss = self.sharpness.accumulate_direction(passes, shares, constraints)
        self._finiteness.see_step(self.state.global_step + 1, loss)
        return loss

    def _begin_step(
        self, model: nn.Module, micro_batches: list[MicroBatch], num_items_in_batch: torch.Tensor | int | None
    ) -> None:
        """Tell the rule, the loss and the objectives where the run is."""
        epoch, reweighting_epochs = int(self.state.epoch), self.args.reweighting_epochs or ()
        stage = sum(epoch >= each for each in reweighting_epochs)
        self.sharpness.progress = self.state.global_step / self.state.max_steps
        self.sharpness.epoch, self.sharpness.reweighting_stage = epoch, stage
        if self._class_weighting is not None:
            labels = torch.cat([each.inputs["labels"] for each in micro_batches])
            self._class_weighting.begin_step(labels, num_items_in_batch, stage, self._add_up_over_processes)
        self.objectives.begin_step(model, epoch)

    def _add_up_over_processes(self, value: torch.Tensor) -> torch.Tensor:
        if not self.args.average_tokens_across_devices:
            return value
        return self.accelerator.reduce(value, reduction="sum")

    def _run_backward_pass(
        self,
        model: nn.Module,
        num_items_in_batch: torch.Tensor | int | None,
        micro_batches: list[MicroBatch],
        constraint: ConstrainingObjective | None,
        sample_mask: SampleMask | None,
    ) -> Backward:
        """Run the Trainer's forward and backward pass of each micro-batch, and add their losses up.

        Args:
            model, num_items_in_batch: As for `training_step`.
            micro_batches: The micro-batches.
            constraint: The objective whose term is evaluated instead of the loss.
            sample_mask: From labels to whether their samples count.
        """
        if sample_mask is not None:
            if num_items_in_batch is None:
                raise ValueError(
                    f"The rule {self.args.sharpness!r} tells classes apart, so the loss of a part of the batch is "
                    "divided by the size of the whole: the model's forward must take num_items_in_batch, or else give "
                    "the Trainer a compute_loss_func, which does."
                )
            compares = [{"pixel_values", "input_ids"} <= each.inputs.keys() for each in micro_batches]
            micro_batches = [
                each.keep(sample_mask, whole=self._normalises_over_batch or images_with_texts)
                for each, images_with_texts in zip(micro_batches, compares, strict=True)
            ]
        losses = []
        for micro_batch in micro_batches:
            self._evaluated = Evaluated(micro_batch, constraint)
            try:
                losses.append(super().training_step(model, micro_batch.inputs, num_items_in_batch))
            finally:
                self._evaluated = None
        return Backward(torch.stack(losses).sum())

    def _shares(
        self, micro_batches: list[MicroBatch], num_items_in_batch: torch.Tensor | int | None
    ) -> list[torch.Tensor | float] | None:
        """Each micro-batch's share of the loss, where the rule is applied to parts of the batch."""
        size = self._size_of_batch(num_items_in_batch)
        if size is None or self.args.m_sharpness == "batch":
            return None
        return [float(counted(each.inputs["labels"]).sum()) / float(size) for each in micro_batches]

    def _encode_frozen_images(self, inputs: dict[str, torch.Tensor | Any]) -> MicroBatch:
        """Encode the images now where all gradient evaluations of the step would see the same of them."""
        if "pixel_values" not in inputs or "input_ids" in inputs or not hasattr(self.model, "encode_images"):
            return MicroBatch(inputs)
        frozen = self.model.sees_images_frozen
        if not frozen and not self.objectives.needs_frozen_images:
            return MicroBatch(inputs)
        with self.compute_loss_context_manager():
            features = self.model.encode_images(**inputs)
        if not frozen:
            return MicroBatch(inputs, features)
        others = {name: value for name, value in inputs.items() if name not in self.model.image_input_names}
        return MicroBatch({**others, "image_features": features})

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
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if self.objectives.objectives and model.training:
            micro_batch, constraint = self._evaluated or (None, None)
            frozen = None if micro_batch is None else micro_batch.frozen_image_features
            size = self._size_of_batch(num_items_in_batch)
            term = self.objectives.term(Batch(model, inputs, outputs, labels, index, size, frozen), constraint)
            loss = loss + term if constraint is None else term
        return (loss, outputs) if return_outputs else loss

    def _compute_weighted_loss(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        if self._class_weighting is None:  # before training
            return weighted_cross_entropy(logits_of(outputs), labels, num_items_in_batch=num_items_in_batch)
        return self._class_weighting(outputs, labels, num_items_in_batch, self.model.training)

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
            with self._callback(Restart(early.initial, self.subspace, self.log)):
                output = super().train(None, *args, **kwargs)
        if self.is_world_process_zero():
            shutil.rmtree(self._early_directory, ignore_errors=True)
        return output

    def _run_early_stage(self, checkpoint: str | None, *args: Any, **kwargs: Any) -> EarlyStage:
        early = EarlyStage(self.args.subspace_epochs)
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
            self.optimizer = None  # so that the second stage makes its own
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
            card = model_card(self._describe_prompt(), *args, **kwargs)
            card.save(os.path.join(self.args.output_dir, "README.md"))

    def _describe_prompt(self) -> TrainedPrompt:
        """What the card tells."""
        has_length = hasattr(self.train_dataset, "__len__")
        return TrainedPrompt(
            model=self.model,
            args=self.args,
            rule=None if self.sharpness is None else self.sharpness.rule,
            objectives=[] if self.sharpness is None else self.objectives.objectives,
            log_history=self.state.log_history,
            training_images=len(self.train_dataset) if has_length else None,
            repository=self.hub_model_id,
        )

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if not self.args.should_save:
            return
        if self._finiteness is not None:
            self._check_finiteness()
        with written_whole(output_dir if output_dir is not None else self.args.output_dir) as folder:
            super()._save(str(folder), state_dict)

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
