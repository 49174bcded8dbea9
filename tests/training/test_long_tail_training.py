"""Long tails in the Trainer: losses by name, counts from the data, weights in time, however the batch is cut."""

import pytest
import torch
from support.rotation import rotate
from torch import nn
from torch.nn.functional import cross_entropy
from training.long_tail_runs import COUNTS, WIDTH, Cosine, make_data, make_trainer, train

from hf_sharp_prompt import SharpPromptTrainer, SharpPromptTrainingArguments
from hf_sharp_prompt.objectives import long_tail
from hf_sharp_prompt.sharpness.rules.focalsam import FocalSAM


@pytest.fixture
def without_noise(monkeypatch):
    """GCL's noise is drawn for each micro-batch, as dropout is."""
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)


@pytest.mark.parametrize("epochs", [None, [1], [1, 2]])
def test_it_is_what_a_hand_written_loop_does(epochs, tmp_path):
    """The loss is of the data's counts, and from the first epoch of re-weighting on torch's weighted cross entropy."""
    trained = train(
        tmp_path, loss="logit_adjustment", loss_args={"tau": 0.7}, reweighting_beta=0.9, reweighting_epochs=epochs
    )
    model, data = Cosine(), make_data()
    counts = torch.tensor(COUNTS, dtype=torch.float64)
    weights = 1 / (1 - 0.9**counts)
    for epoch in range(3):
        adjusted = model(data.features[:, 0])["logits"] + 0.7 * (counts / counts.sum()).log()
        reweighted = epochs is None or epoch >= 1
        loss = cross_entropy(adjusted, data.labels, weights if reweighted else None)
        (gradient,) = torch.autograd.grad(loss, model.weight)
        with torch.no_grad():
            model.weight -= 0.5 * gradient
    torch.testing.assert_close(trained, model.weight.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("loss", "rule"), rotate(long_tail.names(), ["imbsam", "focalsam", "gnm", "sam", "none"]))
def test_micro_batches_make_the_whole_batch(loss, rule, tmp_path, without_noise):
    """Dividing by each micro-batch's own weights, as torch's weighted cross entropy does, would make rare classes'
    weight depend on how the batch is cut; so would a micro-batch without any of imbsam's tail.
    """
    arguments = {"loss": loss, "reweighting_beta": 0.9, "reweighting_epochs": [1], "sharpness": rule}
    whole = train(tmp_path, **arguments)
    cut = train(tmp_path, per_device_train_batch_size=7, gradient_accumulation_steps=6, **arguments)
    torch.testing.assert_close(cut, whole, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(whole, train(tmp_path, sharpness=rule))


@pytest.mark.parametrize("strategy", ["random", "class_balanced"])
@pytest.mark.parametrize("checkpoint", [3, 5, 7])
def test_a_resumed_run_goes_on_as_the_whole_one(checkpoint, strategy, tmp_path):
    """Before, in, and after the epoch of re-weighting: a loss that forgot its weights would train on unnoticed; so
    would a sampler that began with the first epoch's samples again.
    """
    arguments = {"loss": "gcl", "reweighting_beta": 0.9, "reweighting_epochs": [2], "sharpness": "gnm"}
    arguments |= {"per_device_train_batch_size": 18, "num_train_epochs": 4, "save_strategy": "steps", "save_steps": 1}
    arguments |= {"train_sampling_strategy": strategy}
    whole = train(tmp_path, **arguments)
    resumed = make_trainer(tmp_path, **arguments)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{checkpoint}"))
    assert torch.equal(resumed.model.weight, whole)


def test_evaluation_reports_plain_cross_entropy(tmp_path):
    """Margins and weights are a way to train; losses of models that were trained in other ways must compare."""
    trainer = make_trainer(tmp_path, loss="ldam", reweighting_beta=0.9)
    data = make_data()
    before = trainer.evaluate(data)["eval_loss"]
    assert before == pytest.approx(cross_entropy(trainer.model(data.features[:, 0])["logits"], data.labels).item())
    trainer.train()
    after = trainer.evaluate(data)["eval_loss"]
    assert after == pytest.approx(cross_entropy(trainer.model(data.features[:, 0])["logits"], data.labels).item())


def test_imbsam_takes_its_tail_from_the_counts(tmp_path):
    trainer = make_trainer(tmp_path, sharpness="imbsam")
    trainer.train()
    assert trainer.sharpness.rule.tail_classes == [1, 2, 3], "those with fewer than 20 samples"
    given = make_trainer(tmp_path, sharpness="imbsam", sharpness_args={"tail_classes": [3]})
    given.train()
    assert given.sharpness.rule.tail_classes == [3]


def test_imbsam_runs_the_model_on_the_samples_that_count_alone(tmp_path):
    """A tail is small: running the whole batch for each of its gradients would take three times a plain step."""
    trainer = make_trainer(tmp_path, sharpness="imbsam", num_train_epochs=1)
    sizes = []
    trainer.model.register_forward_pre_hook(
        lambda model, args, inputs: sizes.append(len(inputs["image_features"])), with_kwargs=True
    )
    trainer.train()
    assert sorted(sizes) == [9 + 3 + 1, 9 + 3 + 1, 23]


def test_imbsam_runs_the_whole_batch_where_samples_see_each_other(tmp_path):
    """Batch normalisation of the tail by itself would train for images that are never seen in such company."""

    class Normalising(Cosine):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(WIDTH, affine=False, dtype=torch.float64)

        def forward(self, image_features, **kwargs) -> dict[str, torch.Tensor]:
            return super().forward(self.norm(image_features), **kwargs)

    trainer = make_trainer(tmp_path, model=Normalising(), sharpness="imbsam", num_train_epochs=1)
    trainer.train()
    model, data = Normalising(), make_data()

    def gradient(samples: torch.Tensor, offset: torch.Tensor | float = 0.0) -> torch.Tensor:
        weight = (model.weight + offset).detach().requires_grad_()
        logits = torch.func.functional_call(model, {"weight": weight}, (data.features[:, 0],))["logits"]
        losses = cross_entropy(logits, data.labels, reduction="none")
        return torch.autograd.grad((losses * samples).sum() / len(losses), weight)[0]

    g_t = gradient(data.labels > 0)
    direction = gradient(data.labels == 0) + 2 * gradient(data.labels > 0, 0.05 * g_t / g_t.norm())
    torch.testing.assert_close(trainer.model.weight.detach(), (model.weight - 0.5 * direction).detach())


def by_hand(classes: list[float], data, weight: torch.Tensor, offset: torch.Tensor | float = 0.0) -> torch.Tensor:
    """The gradient of the batch's cross entropy with a weight for each class."""
    model = Cosine()
    weight = (weight + offset).detach().requires_grad_()
    logits = torch.func.functional_call(model, {"weight": weight}, (data.features[:, 0],))["logits"]
    losses = cross_entropy(logits, data.labels, reduction="none")
    classes = torch.tensor(classes, dtype=torch.float64)
    return torch.autograd.grad((classes[data.labels] * losses).mean(), weight)[0]


@pytest.mark.parametrize("given", [None, [4, 3, 2, 9]], ids=["counted", "given"])
def test_focalsam_weighs_the_classes_by_their_counts(given, tmp_path):
    """Otherwise the sharpness of rare classes counts no more than that of frequent ones."""
    arguments = {"rho": 0.1, "weight": 0.7, "gamma": 2.0} | ({} if given is None else {"class_counts": given})
    trainer = make_trainer(tmp_path, sharpness="focalsam", sharpness_args=arguments)
    trainer.train()
    weight, data, counts = Cosine().weight.detach(), make_data(), given or COUNTS
    focal = [0.7 * (1 - count / sum(counts)) ** 2 for count in counts]
    for _ in range(3):
        g_s = by_hand(focal, data, weight)
        sharp = by_hand(focal, data, weight, 0.1 * g_s / g_s.norm())
        weight = weight - 0.5 * (by_hand([1 - each for each in focal], data, weight) + sharp)
    torch.testing.assert_close(trainer.model.weight.detach(), weight, rtol=1e-10, atol=1e-12)


def test_focalsam_weighs_the_objectives_terms_as_the_losses(tmp_path):
    """With equal weights it is sam. A term that were added whole to both parts of the batch would count twice."""
    arguments = {"objectives": {"mesa": {"start": 0, "decay": 0.8}}, "loss": "logit_adjustment"}
    equal = {"rho": 0.05, "weight": 0.4, "gamma": 0.0}
    focal = train(tmp_path, sharpness="focalsam", sharpness_args=equal | {"rho": 0.0}, **arguments)
    plain = train(tmp_path, sharpness="none", **arguments)
    torch.testing.assert_close(focal, plain, rtol=1e-10, atol=1e-12)
    focal = train(tmp_path, sharpness="focalsam", sharpness_args=equal | {"weight": 1.0}, **arguments)
    torch.testing.assert_close(focal, train(tmp_path, sharpness="sam", **arguments), rtol=1e-10, atol=1e-12)


def test_a_rule_that_weighs_samples_says_so(tmp_path, monkeypatch):
    """Otherwise the weights would be ignored without a word."""
    monkeypatch.setattr(FocalSAM, "weighs_classes", False)
    with pytest.raises(ValueError, match=r"'focalsam' weighs the samples.* weighs_classes = True"):
        make_trainer(tmp_path, sharpness="focalsam").train()


@pytest.mark.parametrize(("strategy", "exponent"), [("class_balanced", 0.0), ("square_root", 0.5)])
def test_classes_are_drawn_as_asked(strategy, exponent, tmp_path):
    """By the strategy's frequencies, and again in each epoch."""
    trainer = make_trainer(tmp_path, train_sampling_strategy=strategy, per_device_train_batch_size=9)
    loader = trainer.get_train_dataloader()
    epochs = [torch.cat([batch["labels"] for batch in loader]) for _ in range(60)]
    assert not torch.equal(epochs[0], epochs[1])
    expected = torch.tensor(COUNTS, dtype=torch.float64) ** exponent
    drawn = torch.stack(epochs).flatten().bincount() / (60 * sum(COUNTS))
    torch.testing.assert_close(drawn.double(), expected / expected.sum(), rtol=0, atol=0.03)


def test_objectives_that_remember_samples_go_with_balanced_classes(tmp_path):
    """Both ask for the data loader to be another one."""
    trainer = make_trainer(
        tmp_path,
        train_sampling_strategy="class_balanced",
        objectives={"saf": {"start": 1, "epochs_ago": 1}},
        loss="balanced_softmax",
        num_train_epochs=2,
    )
    trainer.train()
    assert trainer.model.weight.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "gcll"}, "There is no loss 'gcll'; did you mean 'gcl'"),
        ({"loss": "gcl", "loss_args": {"margn": 1}}, "gcl has no hyperparameter 'margn'; did you mean 'margin'"),
        ({"loss": "gcl", "loss_args": {"margin": "wide"}}, "gcl: margin must be a finite number >= 0, got 'wide'"),
        ({"loss_args": {"margin": 1}}, "loss_args is set but loss is not"),
        ({"reweighting_beta": 1.0}, "beta must be at least 0 and below 1"),
        ({"loss": "gcl", "label_smoothing_factor": 0.1}, "label_smoothing_factor smooths the model's own loss"),
        ({"sharpness": "focalsam", "label_smoothing_factor": 0.1}, "and sharpness='focalsam' replaces it"),
        ({"reweighting_beta": 0.9, "reweighting_epochs": [3]}, "the last of 3 epochs, counted from 0, is 2"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_loaded(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, **arguments)


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        (None, {"class_counts": [23, 9, 3, 2]}, r"class_counts is \[23, 9, 3, 2\] .* has \[23, 9, 3, 1\]"),
        (make_data([23, 0, 3, 1]), {}, r"Classes \[1\] have no training samples"),
        (make_data([23, 9, 3]), {}, "The model has 4 classes, but the loss has the counts of 3"),
        ([{"image_features": torch.zeros(WIDTH), "labels": 0}], {}, "set class_counts in the training arguments"),
        (None, {"max_steps": 2, "reweighting_epochs": [2]}, "the run ends at max_steps=2 in epoch 1"),
        (None, {"loss": None, "sharpness": "imbsam", "class_counts": COUNTS[::-1]}, "leave class_counts out"),
        (make_data([40, 30, 30, 20]), {"sharpness": "imbsam"}, "No class has fewer than 20 samples"),
    ],
)
def test_what_does_not_go_with_the_data_is_refused_at_the_start(data, arguments, message, tmp_path):
    trainer = make_trainer(tmp_path, data, **({"loss": "gcl"} | arguments))
    with pytest.raises(ValueError, match=message):
        trainer.train()


def test_counts_may_be_said_where_they_cannot_be_seen(tmp_path):
    """Streams, and data sets of one's own, do not show their labels."""
    data = list(make_data())
    said = train(tmp_path, data=data, loss="ldam", class_counts=COUNTS)
    torch.testing.assert_close(said, train(tmp_path, loss="ldam"))


@pytest.mark.parametrize(
    ("arguments", "named"), [({"loss": "gcl"}, "loss"), ({"sharpness": "focalsam"}, "sharpness='focalsam'")]
)
def test_two_losses_are_refused(arguments, named, tmp_path):
    arguments = SharpPromptTrainingArguments(str(tmp_path), use_cpu=True, report_to="none", **arguments)
    with pytest.raises(ValueError, match=f"compute_loss_func and {named} each choose a loss"):
        SharpPromptTrainer(Cosine(), arguments, train_dataset=make_data(), compute_loss_func=cross_entropy)
