"""Learning rates that change where an epoch begins, what is decayed, and which batches an epoch has: as in Dassl."""

import warnings

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR
from training.small_runs import make_data, make_model, make_trainer, prompt_of
from transformers import TrainerCallback

from hf_sharp_prompt import SharpPromptTrainingArguments
from hf_sharp_prompt.training.epoch_schedule import EpochCosine


SCHEDULE = {"epoch_schedule": "cosine", "first_epoch_learning_rate": 1e-5}


class Recorder(TrainerCallback):
    """The learning rate of each step, and what the schedulers were told; ends the run at a step, if one is given."""

    def __init__(self, stop: int | None = None) -> None:
        self.rates, self.stop = [], stop

    def on_pre_optimizer_step(self, args, state, control, optimizer, **kwargs) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step == self.stop:
            control.should_save = control.should_training_stop = True


def run(output_dir, resume=None, stop=None, **arguments):
    recorder = Recorder(stop)
    trainer = make_trainer(output_dir, trainer_arguments={"callbacks": [recorder]}, **arguments)
    trainer.train(resume_from_checkpoint=resume)
    return trainer, recorder.rates


def rates_of(epochs: int, learning_rate: float, first: float) -> list[float]:
    """Dassl's, from its two schedulers: constant in epoch 0; torch's cosine, stepped once per later epoch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=learning_rate)
    cosine = CosineAnnealingLR(optimizer, float(epochs))
    rates = [first]
    for _ in range(1, epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no optimizer steps between
            cosine.step()
    return rates


class TestSchedule:
    @pytest.mark.parametrize("epochs", [1, 2, 5, 20])
    def test_learning_rates_are_dassls(self, epochs):
        """Otherwise CoOp and its successors are trained with another schedule than theirs."""
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.002)
        scheduler = EpochCosine(optimizer, epochs, 1e-5)
        found = []
        for epoch in range(epochs):
            scheduler.set_epoch(epoch)
            optimizer.step()
            scheduler.step()  # which the Trainer calls after every step
            found.append(optimizer.param_groups[0]["lr"])
            assert scheduler.get_last_lr() == [found[-1]]
        assert found == pytest.approx(rates_of(epochs, 0.002, 1e-5), rel=1e-12)

    def test_five_epochs(self):
        """The values by hand: relative to the learning rate 1, .905, .655, .345 behind the constant one."""
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        scheduler = EpochCosine(optimizer, 5, 1e-5)
        rates = []
        for epoch in range(5):
            scheduler.set_epoch(epoch)
            rates += scheduler.get_last_lr()
        assert rates == pytest.approx([1e-5, 1, 0.9045, 0.6545, 0.3455], abs=1e-4)

    def test_without_a_rate_of_its_own_the_first_epoch_has_the_full_one(self):
        """Otherwise RSAM-PT, which has no warm-up, cannot be followed."""
        optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "lr": 0.1}, {"params": [torch.ones(1)]}], lr=0.2)
        assert EpochCosine(optimizer, 5).get_last_lr() == [0.1, 0.2]

    @pytest.mark.parametrize("sharpness", ["none", "sam"])
    def test_the_trainer_sets_it_where_an_epoch_begins(self, sharpness, tmp_path):
        """Otherwise it goes with every step; here 4 steps in each of 5 epochs."""
        trainer, rates = run(tmp_path, sharpness=sharpness, num_train_epochs=5, **SCHEDULE)
        expected = [rate for rate in rates_of(5, 0.05, 1e-5) for _ in range(4)]
        assert rates == pytest.approx(expected, rel=1e-12)
        logged = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
        assert logged == pytest.approx(expected, rel=1e-12)

    def test_an_end_by_steps_counts_its_epochs(self, tmp_path):
        """Otherwise max_steps anneals over num_train_epochs, which the run has not."""
        _, rates = run(tmp_path, max_steps=10, num_train_epochs=50, **SCHEDULE)
        assert rates == pytest.approx([rate for rate in rates_of(3, 0.05, 1e-5) for _ in range(4)][:10], rel=1e-12)

    @pytest.mark.parametrize("step", [3, 4])
    def test_a_resumed_run_ends_on_the_same_bits(self, step, tmp_path):
        """Otherwise an interruption within an epoch, or between two, changes the result."""
        whole, rates = run(tmp_path / "whole", num_train_epochs=3, **SCHEDULE)
        run(tmp_path / "parts", stop=step, num_train_epochs=3, **SCHEDULE)
        resumed, later = run(
            tmp_path / "parts", resume=str(tmp_path / f"parts/checkpoint-{step}"), num_train_epochs=3, **SCHEDULE
        )
        assert later == rates[step:]
        assert torch.equal(prompt_of(resumed.model), prompt_of(whole.model))

    def test_a_run_may_be_continued_for_longer(self, tmp_path):
        """Otherwise the checkpoint's number of epochs holds, and the rate would rise again."""
        run(tmp_path, stop=4, num_train_epochs=2, **SCHEDULE)
        _, rates = run(tmp_path, resume=str(tmp_path / "checkpoint-4"), num_train_epochs=4, **SCHEDULE)
        assert rates == pytest.approx([rate for rate in rates_of(4, 0.05, 1e-5)[1:] for _ in range(4)], rel=1e-12)

    def test_a_trainer_may_train_twice(self, tmp_path):
        """Otherwise the second run keeps the first one's last rate."""
        trainer, rates = run(tmp_path, num_train_epochs=2, **SCHEDULE)
        recorder = next(each for each in trainer.callback_handler.callbacks if isinstance(each, Recorder))
        recorder.rates = again = []
        trainer.train()
        assert again == rates

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"epoch_schedule": "cosin"}, "no epoch_schedule 'cosin'; did you mean 'cosine'"),
            ({"first_epoch_learning_rate": 1e-5}, "first_epoch_learning_rate is set but epoch_schedule is not"),
            ({**SCHEDULE, "first_epoch_learning_rate": -1.0}, "must be a finite number >= 0, got -1.0"),
            ({**SCHEDULE, "warmup_steps": 0.1}, "replaces the schedule of steps, to which warmup_steps belongs"),
            ({**SCHEDULE, "lr_scheduler_type": "cosine"}, "to which lr_scheduler_type belongs; leave that out"),
        ],
    )
    def test_what_would_have_no_effect_is_refused(self, arguments, message, tmp_path):
        """Otherwise a setting is ignored without a word."""
        with pytest.raises(ValueError, match=message):
            SharpPromptTrainingArguments(str(tmp_path), use_cpu=True, **arguments)


class TestWeightDecay:
    def test_it_holds_for_all_that_is_trained(self, tmp_path):
        """Otherwise biases of meta-nets, which the papers' code decays, are spared."""
        trainer = make_trainer(tmp_path, model=make_model(conditional=True), weight_decay=0.0005)
        trainer.create_optimizer()
        names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
        decayed = {
            names[id(parameter)]
            for group in trainer.optimizer.param_groups
            for parameter in group["params"]
            if group["weight_decay"] == 0.0005
        }
        assert decayed == {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
        assert any(name.endswith("bias") for name in decayed)

    def test_a_step_of_zero_gradients_shrinks_by_it(self, tmp_path):
        """Otherwise the groups say one thing and the optimizer does another."""
        trainer = make_trainer(
            tmp_path, sharpness="none", weight_decay=0.5, learning_rate=0.1, optim_args="momentum=0.0", max_steps=1
        )
        before = prompt_of(trainer.model)
        trainer.create_optimizer()
        for parameter in trainer.sharpness.parameters.tensors:
            parameter.grad = torch.zeros_like(parameter)
        trainer.optimizer.step()
        assert torch.allclose(prompt_of(trainer.model), before * (1 - 0.1 * 0.5), rtol=1e-12)

    @pytest.mark.parametrize(
        ("optim", "optim_args", "message"),
        [
            ("sgd", "momentum=0.9,weight_decay=0.0005", "has weight_decay, which has no effect on optim='sgd'; use"),
            ("sgd", "lr=0.1", "use the argument learning_rate instead"),
            ("sgd", "mometum=0.9", "has mometum, which has no effect on optim='sgd'; leave it out"),
            ("adamw_torch", "betas=(0.9,0.99)", "optim_args must be name=value pairs"),
            ("adamw_torch", "beta1=0.8", "use the argument adam_beta1 instead"),
            ("adamw_torch", "momentum=0.9", "has momentum, which has no effect on optim='adamw_torch'"),
            ("sgd", "momentum", "optim_args must be name=value pairs with commas between, got 'momentum'"),
        ],
    )
    def test_entries_without_effect_are_refused(self, optim, optim_args, message, tmp_path):
        """Otherwise the weight decay of every recipe is 0 and nobody is told."""
        with pytest.raises(ValueError, match=message):
            SharpPromptTrainingArguments(str(tmp_path), use_cpu=True, optim=optim, optim_args=optim_args)


class TestLastBatch:
    @pytest.mark.parametrize(
        ("samples", "accumulation", "steps", "seen", "strategy"),
        [
            (24, 1, 4, 24, "random"),
            (23, 1, 3, 18, "sequential"),
            (5, 1, 1, 5, "class_balanced"),
            (23, 2, 1, 12, "random"),
            (36, 2, 3, 36, "sequential"),
            (11, 2, 1, 11, "random"),
            (23, 1, 3, 18, "class_balanced"),
        ],
    )
    def test_only_whole_batches_are_trained_on(self, samples, accumulation, steps, seen, strategy, tmp_path):
        """Otherwise an epoch has a step more than in Dassl; or data smaller than a batch trains on nothing."""
        trainer = make_trainer(
            tmp_path,
            data=make_data(samples),
            gradient_accumulation_steps=accumulation,
            train_sampling_strategy=strategy,
            drop_last_train_batch=True,
            num_train_epochs=1,
            eval_strategy="no",
        )
        sizes = []
        training_step = trainer.training_step
        trainer.training_step = lambda model, inputs, *args: (
            sizes.append(len(inputs["labels"])) or training_step(model, inputs, *args)
        )
        trainer.train()
        assert (trainer.state.max_steps, sum(sizes)) == (steps, seen)

    def test_others_are_left_out_in_each_epoch(self, tmp_path):
        """Otherwise the same samples are never seen."""
        trainer = make_trainer(tmp_path, data=make_data(23), drop_last_train_batch=True)
        loader = trainer.get_train_dataloader()
        orders = []
        for epoch in range(3):
            loader.set_epoch(epoch)
            orders.append([int(label) for batch in loader for label in batch["labels"]])
            assert len(orders[-1]) == 18
        assert orders[0] != orders[1] != orders[2]
        full = make_trainer(tmp_path, data=make_data(23)).get_train_dataloader()
        full.set_epoch(1)
        assert [int(label) for batch in full for label in batch["labels"]][:18] == orders[1], "the same order, cut"

    def test_evaluation_is_of_all_samples(self, tmp_path):
        """Otherwise accuracies are of fewer images than the data set has."""
        trainer = make_trainer(
            tmp_path,
            drop_last_train_batch=True,
            per_device_eval_batch_size=6,
            trainer_arguments={"eval_dataset": make_data(23)},
        )
        assert trainer.predict(make_data(23)).label_ids.shape == (23,)

    @pytest.mark.parametrize("arguments", [{"drop_last_train_batch": True}, SCHEDULE])
    def test_samples_that_stream_by_are_refused(self, arguments, tmp_path):
        """Otherwise they are not counted, and the argument has no effect."""

        class Stream(torch.utils.data.IterableDataset):
            def __iter__(self):
                yield from (make_data()[index] for index in range(6))

        trainer = make_trainer(tmp_path, data=Stream(), max_steps=2, **arguments)
        with pytest.raises(ValueError, match="needs the number of samples of an epoch, but a Stream has no length"):
            trainer.train()
