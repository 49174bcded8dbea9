from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard
from peft import PeftModel
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import BaseImageProcessor, PreTrainedTokenizerBase, ProcessorMixin
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from ..cards import CARD_NAME, History, model_card, tell_history, write_pictures
from ..cards.card import path_to_load
from ..cards.writing import read_history_beside
from ..compat.accelerate import find_fsdp_settings, launched_without_fsdp
from ..data import ImageCollator
from ..objectives import Batch, Objective, ObjectiveSum
from ..sharpness import SharpnessAware, SharpnessRule
from ..tuners.sharding import is_sharded, place_model
from ..tuners.text_passes import backward_pass
from .arguments import SharpPromptTrainingArguments
from .batches import SeededTrainer
from .callbacks import ReweightingInTheRun, StepsTaken, StopsIfNotFinite
from .checkpoint import load_state, save_state
from .checkpointing import CheckpointingTrainer
from .class_weighting import ClassWeighting, count_classes
from .draws import SAMPLE_INDEX
from .epoch_schedule import EpochCosine
from .finiteness import FinitenessCheck
from .frozen_features import class_features_kept, encode_frozen_images
from .history import describe_training, measured, public_names
from .label_check import check_parts_fit_labels
from .push import PushingTrainer
from .step import Evaluated, MicroBatch, Step
from .subspace_stage import SubspaceTrainer


class SharpPromptTrainer(SubspaceTrainer, PushingTrainer, SeededTrainer, CheckpointingTrainer):
    """A `transformers.Trainer` whose steps follow a sharpness rule's direction.

    One optimizer step's micro-batches, over all processes, form one batch, and the rule runs once per step over all of
    it; `m_sharpness` asks for other scopes. Samples that Accelerate repeats to fill the last processes' shares do not
    count, where the loss is divided by `num_items_in_batch`. Everything else is the Trainer's: its arguments,
    callbacks, checkpoints, logs and launchers. Under `accelerate launch --use_fsdp --fsdp_version 2`, frozen layers
    are sharded over the processes, and what trains is whole in each.

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

    Attributes:
        sharpness: Computes the directions; None until training begins.
        objectives: What is minimised besides the loss.
        picture: A PNG file that the model's card shows; none by default.

    Raises:
        ValueError: There are two losses. When training starts: nothing trains; class counts are not those of the data
            or cannot be seen; the run does not reach a re-weighting epoch; or an engine owns the backward pass
            (DeepSpeed), shards what trains (FSDP 1) or replicates the model within a process (DataParallel).
    """

    args: SharpPromptTrainingArguments
    sharpness: SharpnessAware | None = None
    picture: bytes | None = None
    _evaluated: Evaluated | None = None  # within a backward pass

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
        self._class_weighting = ClassWeighting(args) if args.changes_loss else None
        if self._class_weighting is not None:
            if kwargs.get("compute_loss_func") is not None:
                chosen = " and ".join(["compute_loss_func", *args.arguments_that_choose_a_loss])
                raise ValueError(f"{chosen} each choose a loss; drop all but one.")
            kwargs["compute_loss_func"] = self._compute_weighted_loss
        super().__init__(model, args, data_collator, **kwargs)
        if self.args.dataloader_pin_memory:  # Then batches are copied while the device works on those before.
            self.accelerator.dataloader_config.non_blocking = True
        self.objectives = ObjectiveSum(args.make_objectives(), self.accelerator)
        self._micro_batches: list[MicroBatch] = []
        self._steps_taken = StepsTaken(self.accelerator)
        self._finiteness = StopsIfNotFinite(self.accelerator)
        for callback in (self._steps_taken, self._finiteness, ReweightingInTheRun()):
            self.add_callback(callback)

    @property
    def remembering_samples(self) -> list[str]:
        """The names of the objectives that remember samples."""
        return self.objectives.remembering_samples

    def create_accelerator_and_postprocess(self) -> None:
        """Make the Accelerator of plain data parallelism: frozen layers are sharded here, and nothing else is."""
        with launched_without_fsdp():
            super().create_accelerator_and_postprocess()

    def place_model(self, model: nn.Module, device: torch.device) -> None:
        """Put the model on the device, or shard its frozen layers where the launcher asks for FSDP."""
        if is_sharded(model) or find_fsdp_settings() is not None:
            place_model(model, device)
        else:
            super().place_model(model, device)

    def owns_its_reduction(self, model: nn.Module) -> bool:
        """True for a model whose frozen layers are sharded: the gradients of the rest are reduced by the rule."""
        return is_sharded(model)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer, and what puts the rule's direction in front of it."""
        if self.args.n_gpu > 1:
            raise ValueError(
                "Sharpness rules do not run in one process over several GPUs (torch.nn.DataParallel). Start one "
                "process per GPU with `accelerate launch`, or show the process one GPU with CUDA_VISIBLE_DEVICES=0."
            )
        self.objectives = ObjectiveSum(self.args.make_objectives(), self.accelerator)
        check_parts_fit_labels(self.model, self.args, self.objectives.objectives)
        optimizer = super().create_optimizer(model)
        counts = count_classes(self.args, self.train_dataset)
        if self._class_weighting is not None and counts is not None:
            self._class_weighting.begin_run(self.model, counts, self.accelerator)
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
        self.objectives.begin_run(self.model, self._tokenizer)
        self._steps_taken.begin_run(self.objectives, is_early_stage=self.early_stage is not None)
        self._finiteness.begin_run(FinitenessCheck(self.sharpness), self.find_checkpoint_directory())
        self._micro_batches = []
        self._samples_interact = any(isinstance(module, _BatchNorm) for module in self.model.modules())
        if isinstance(self.model, PeftModel):
            tell_history(self.model, lambda: self.describe())  # copies of the model must not copy the Trainer
        return optimizer

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Return all names: the code of the methods here decays all that is trained, biases and norms included."""
        return [name for name, _ in model.named_parameters()]

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Make the scheduler, one of epochs where `epoch_schedule` asks for it."""
        optimizer = self.optimizer if optimizer is None else optimizer
        if self.args.epoch_schedule == "none" or self.lr_scheduler is not None or optimizer is None:
            return super().create_scheduler(num_training_steps, optimizer)
        epochs = self.state.num_train_epochs or self.args.num_train_epochs
        scheduler = EpochCosine(optimizer, epochs, self.args.first_epoch_learning_rate)
        self.use_scheduler(scheduler)
        return scheduler

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor | Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Hold the micro-batch back until the step's last, then put the direction over all of them in `.grad`."""
        with self.compute_loss_context_manager():
            prepared = self._prepare_inputs(inputs)
            self._micro_batches.append(encode_frozen_images(self.model, prepared, self.objectives.needs_frozen_images))
        if not self.accelerator.sync_gradients:
            return torch.zeros((), device=self.args.device)
        assert self.sharpness is not None  # made with the optimizer
        micro_batches, self._micro_batches = self._micro_batches, []
        self._begin_step(self.sharpness, model, micro_batches, num_items_in_batch)
        run = partial(self._run_backward_pass, model, num_items_in_batch)
        size = self._find_size_of_batch(num_items_in_batch)
        step = Step(micro_batches, run, size, self.sharpness.rule.name, self._samples_interact)
        with self.accelerator.no_sync(model):  # Gradients are reduced once per evaluation, as one tensor.
            shares = None if self.args.m_sharpness == "batch" else step.shares()
            constraints = step.constraints(self.objectives.constraints)
            loss = self.sharpness.accumulate_direction(step.passes(), shares, constraints)
        self._finiteness.see_step(self.state.global_step + 1, loss)
        return loss

    def _begin_step(
        self,
        sharpness: SharpnessAware,
        model: nn.Module,
        micro_batches: list[MicroBatch],
        num_items_in_batch: torch.Tensor | int | None,
    ) -> None:
        """Tell the rule, the loss and the objectives where the run is."""
        epoch = int(self.state.epoch or 0)
        sharpness.progress = self.state.global_step / self.state.max_steps
        sharpness.epoch, sharpness.reweighting_stage = epoch, self.args.find_reweighting_stage(epoch)
        if self._class_weighting is not None:
            labels = [each.inputs["labels"] for each in micro_batches]
            self._class_weighting.begin_step(labels, num_items_in_batch, sharpness.reweighting_stage)
        self.objectives.begin_step(model, epoch)

    def _run_backward_pass(
        self, model: nn.Module, num_items_in_batch: torch.Tensor | int | None, evaluated: Evaluated
    ) -> torch.Tensor:
        """Run the Trainer's forward and backward pass, whose loss `compute_loss` computes of what is evaluated."""
        if evaluated.micro_batch.sample_weights is not None and self._class_weighting is None:
            raise ValueError(
                f"The rule {self.args.sharpness!r} weighs the samples, and so needs the loss of each; say so in its "
                "class with weighs_classes = True."
            )
        self._evaluated = evaluated
        try:
            with backward_pass():
                loss = super().training_step(model, evaluated.micro_batch.inputs, num_items_in_batch)
            return loss.clone()  # A CUDA graph writes the next micro-batch's loss to the same place.
        finally:
            self._evaluated = None

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Compute the Trainer's loss and, in training, add the objectives' terms."""
        inputs = dict(inputs)
        index, labels = inputs.pop(SAMPLE_INDEX, None), inputs.get("labels")
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if self.objectives.objectives and model.training:
            micro_batch, constraint = self._evaluated or Evaluated(MicroBatch(inputs))
            size = self._find_size_of_batch(num_items_in_batch)
            batch = Batch(
                *(model, inputs, outputs, labels, index, size),
                frozen_image_features=micro_batch.frozen_image_features,
                sample_weights=micro_batch.sample_weights,
            )
            term = self.objectives.term(batch, constraint)
            loss = loss + term if constraint is None else term
        return (loss, outputs) if return_outputs else loss

    def _compute_weighted_loss(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Return the loss with the classes weighted, and the samples as the rule asks for; `compute_loss_func`."""
        assert self._class_weighting is not None
        sample_weights = None if self._evaluated is None else self._evaluated.micro_batch.sample_weights
        return self._class_weighting(outputs, labels, num_items_in_batch, sample_weights)

    def _find_size_of_batch(self, num_items_in_batch: torch.Tensor | int | None) -> torch.Tensor | float | None:
        """Return what the Trainer divides this process's losses by: the step's samples over the number of processes.

        None where it takes the mean of each micro-batch and over them.
        """
        if num_items_in_batch is None or not self.args.average_tokens_across_devices:
            return num_items_in_batch
        return num_items_in_batch / self.accelerator.num_processes

    @property
    def _tokenizer(self) -> PreTrainedTokenizerBase | ProcessorMixin | None:
        """The `processing_class`, if it tokenizes."""
        processor: Any = self.processing_class
        return processor if isinstance(processor, PreTrainedTokenizerBase) or hasattr(processor, "tokenizer") else None

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Evaluate as the Trainer does, and compute the classes' features once for all batches."""
        with class_features_kept(self.model, while_training=False):
            return super().evaluation_loop(*args, **kwargs)

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, torch.Tensor | Any], *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """Predict as the Trainer does, and give metrics the images as inputs, whatever the base model takes first.

        The model is not compiled here: each set of classes would be compiled anew for a few batches, and a CUDA graph
        writes each batch's logits over those of the batch before.
        """
        model = self.accelerator.unwrap_model(model, keep_torch_compile=False)
        predicted = super().prediction_step(model, inputs, *args, **kwargs)
        name = getattr(self.model, "main_input_name", "input_ids")
        if "inputs" in self.args.include_for_metrics and name not in inputs:
            inputs[name] = next(inputs[each] for each in ("pixel_values", "image_features") if each in inputs)
        return predicted

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the rule and the objectives saw to the logs of training steps."""
        if "loss" in logs and self.sharpness is not None:
            logs |= {name: value for name, value in self.sharpness.pop_metrics().items() if name != "loss"}
            logs |= self.objectives.pop_metrics()
        super().log(logs, start_time)

    def train(self, resume_from_checkpoint: str | Path | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train as the Trainer does; resuming from the last checkpoint passes over those that are incomplete.

        With `subspace_epochs` the run has two stages, and may be resumed in either.

        Raises:
            ValueError: The checkpoint lacks what the run needs to end as if it had not been interrupted.
            FloatingPointError: The loss, its gradient or the parameters are not finite. No such state is saved.
        """
        directories = [self.output_directory]
        if self.args.subspace_epochs is not None:
            directories.append(self.early_directory)
        checkpoint = self.choose_checkpoint(resume_from_checkpoint, directories)
        with class_features_kept(self.model, while_training=True):
            return super().train(checkpoint, *args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, its processor and the arguments, whole or not at all; where the arguments say so, push it.

        Args:
            output_dir: The folder; by default that of the arguments.
            _internal_call: True if the Trainer calls it, and the model is not to be pushed.

        Raises:
            FloatingPointError: The run is not finite. What was saved before stays.
        """
        if self.args.should_save:
            self._finiteness.check(self.state.global_step)
        super().save_model(output_dir, _internal_call)

    def save_run_state(self, checkpoint: Path) -> None:
        """Add to a checkpoint what the rule and the objectives remember."""
        if self.sharpness is not None and self.args.should_save:
            save_state(self.sharpness, self.objectives, checkpoint)
        super().save_run_state(checkpoint)

    def load_run_state(self, checkpoint: Path) -> None:
        """Read what the rule and the objectives remembered."""
        super().load_run_state(checkpoint)
        if self.sharpness is not None:
            load_state(self.sharpness, self.objectives, checkpoint)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write the card, `README.md`, of the trained prompts into the output directory.

        Takes the arguments of [`~transformers.Trainer.create_model_card`]; of these, `license`, `language`, `tags`,
        `model_name` and `dataset` enter the card; `subfolder` is the folder of the repository that it is for.
        """
        if not isinstance(self.model, PeftModel):
            kwargs.pop("subfolder", None)
            super().create_model_card(*args, **kwargs)
        elif self.is_world_process_zero():
            history = self.describe()
            write_pictures(history, self.output_directory)
            self.make_card(history, *args, **kwargs).save(self.output_directory / CARD_NAME)

    def write_card(self, folder: Path, subfolder: str | None = None) -> None:
        """Write the card of the trained prompts, and the pictures that it shows, into a folder."""
        if not isinstance(self.model, PeftModel):
            return
        history = self.describe()
        write_pictures(history, folder)
        self.make_card(history, subfolder=subfolder or self.args.hub_subfolder).save(folder / CARD_NAME)

    def make_card(self, history: History | None = None, *args: Any, **kwargs: Any) -> ModelCard:
        """Return the card of the trained prompts.

        Args:
            history: What is known of their training; by default what is known now.
            *args, **kwargs: As of `model_card`, behind the history.
        """
        assert isinstance(self.model, PeftModel)  # Other models have the Trainer's own cards.
        model_id = self.hub_model_id or self.args.hub_model_id or path_to_load(self.output_directory)
        return model_card(self.model, history or self.describe(), *args, **{"model_id": model_id, **kwargs})

    def describe(self) -> History:
        """Return what is known of the prompts' training: what this Trainer saw, or else what their card tells."""
        assert isinstance(self.model, PeftModel)
        log, found = self.state.log_history, measured(self.state.log_history)
        if self.sharpness is None:
            history = read_history_beside(self.model)
            dataset = public_names(self.args.dataset_name)
            found = {**found, "measured_on": dataset} if found["results"] else {}
        else:
            loss = type(self._class_weighting.loss) if self._class_weighting is not None else None
            parts: list[SharpnessRule | Objective] = [self.sharpness.rule, *self.objectives.objectives]
            history = describe_training(self.args, parts, loss, log, self.train_dataset)
        sets = self.eval_dataset.items() if isinstance(self.eval_dataset, dict) else ()
        if classes := {name: list(each.class_names) for name, each in sets if hasattr(each, "class_names")}:
            history.measured_classes = classes
        if self.picture is not None:
            history.picture = self.picture
        return History(**vars(history) | found)
