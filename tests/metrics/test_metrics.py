"""The metrics as users of `evaluate` and of the Trainer meet them."""

import doctest
import inspect
import os
import socket
from functools import partial
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch
from torch import nn
from transformers import EvalPrediction, Trainer, TrainingArguments

from hf_sharp_prompt import metrics


@pytest.mark.parametrize("name", metrics.names())
def test_a_metric_says_what_it_is_and_its_examples_run(name):
    """What `help` shows is what people copy."""
    metric = metrics.load(name)
    assert metric.name == name
    assert metric.module_type == "metric"
    assert metric.description.strip()
    assert metric.citation.startswith("@")
    assert metric.inputs_description in metric.compute.__doc__
    examples = doctest.DocTestParser().get_doctest(metric.inputs_description, {}, name, None, None)
    assert examples.examples
    assert doctest.DocTestRunner().run(examples).failed == 0


def test_the_examples_of_the_package_run():
    found = doctest.testmod(metrics)
    assert found.attempted
    assert found.failed == 0


@pytest.mark.parametrize("name", metrics.names())
def test_evaluate_loads_them_by_path_without_a_network_and_writes_in_its_cache_only(name, tmp_path, monkeypatch):
    """Compute nodes have no network, and an installed package may be read-only."""

    def refuse(*_) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    before = _files(metrics.PATH)
    metric = evaluate.load(str(metrics.PATH / name))
    assert Path(inspect.getfile(type(metric))).is_relative_to(os.environ["HF_MODULES_CACHE"])
    assert _files(metrics.PATH) == before
    assert not _files(tmp_path)


def _files(directory: Path) -> dict[Path, int]:
    return {
        path: path.stat().st_mtime_ns
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_they_combine():
    """`evaluate.combine` is how people ask for several at once."""
    both = evaluate.combine([metrics.load("per_class_accuracy"), str(metrics.PATH / "per_class_accuracy")])
    computed = both.compute(predictions=[0, 1, 1], references=[0, 1, 0])
    assert {value for key, value in computed.items() if key.endswith("_1_accuracy")} == {2 / 3}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shot_group", "There is no metric 'shot_group'; did you mean 'shot_groups'?"),
        ("bleu", "There is no metric 'bleu'.* Known are: base_to_novel, "),
    ],
)
def test_an_unknown_name_is_answered_with_the_known(name, message):
    with pytest.raises(ValueError, match=message):
        metrics.load(name)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("per_class_accuracy", {}),
        ("shot_groups", {"group_sizes": [2, 2, 3]}),
        ("shot_groups", {"train_counts": [300, 200, 100, 50, 20, 10, 5]}),
        ("expected_calibration_error", {"num_bins": 10}),
        ("base_to_novel", {"halves": ["base", "novel"] * 100}),
    ],
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_from_logits_they_are_what_evaluate_computes(name, options, dtype):
    """The way around Arrow must not change a digit."""
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(200, 7), scale=3).astype(dtype), random.integers(7, size=200)
    computed = metrics.compute(name, EvalPrediction(logits, labels), **options)
    if name == "expected_calibration_error":
        exponentials = np.exp(logits.astype(np.float64))
        predictions = exponentials / exponentials.sum(axis=1, keepdims=True)
    else:
        predictions = logits.argmax(axis=1)
    expected = metrics.load(name).compute(predictions=predictions, references=labels, **options)
    expected.pop("per_class_accuracy", None)
    assert computed == pytest.approx(expected, rel=1e-12)


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, inputs, labels):
        logits = self.linear(inputs)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def test_a_trainer_takes_and_logs_them(tmp_path):
    inputs, labels = torch.eye(3).repeat(4, 1), torch.arange(3).repeat(4)
    trainer = Trainer(
        Classifier(),
        TrainingArguments(tmp_path, report_to="none", use_cpu=True, disable_tqdm=True),
        eval_dataset=[{"inputs": of, "labels": label} for of, label in zip(inputs, labels)],
        compute_metrics=partial(metrics.compute, "shot_groups", group_sizes=[1, 1, 1]),
    )
    logged = trainer.evaluate()
    right = (trainer.model(inputs, labels)["logits"].argmax(-1) == labels).double()
    assert logged["eval_overall"] == pytest.approx(right.mean().item())
    for index, group in enumerate(("many", "medium", "few")):
        assert logged[f"eval_{group}"] == right[labels == index].mean()


@pytest.mark.parametrize("name", ["per_class_accuracy", "shot_groups", "expected_calibration_error"])
def test_inputs_of_different_length_are_refused(name):
    """Pairing what does not belong together gives a plausible number."""
    predictions = [[0.5, 0.5]] * 3 if name == "expected_calibration_error" else [0, 1, 0]
    with pytest.raises(ValueError, match=r"Mismatch in the number of predictions \(3\) and references \(2\)"):
        metrics.load(name).compute(predictions=predictions, references=[0, 1])


@pytest.mark.parametrize("name", ["per_class_accuracy", "shot_groups"])
def test_logits_where_classes_belong_are_refused(name):
    with pytest.raises(ValueError, match="don't match the expected format"):
        metrics.load(name).compute(predictions=np.zeros((2, 3)), references=[0, 1], group_sizes=[1, 1, 1])
