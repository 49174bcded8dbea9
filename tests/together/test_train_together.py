"""Runs that are trained at once end where they end alone, and an error of one is not another's."""

import logging
import signal
import threading
from time import perf_counter

import pytest
import torch
from training.small_runs import CLASSES, SETTINGS, make_data, make_model, make_trainer, prompt_of
from transformers import TrainerCallback, set_seed

from hf_sharp_prompt import SharpPromptTrainer
from hf_sharp_prompt.data import ImageFeatures
from hf_sharp_prompt.together import session, stacked, train_together, why_alone
from hf_sharp_prompt.together.weights import copy_with_same_weights, share_equal_weights


NOVEL = ["purple cross", "orange square"]
RUNS = {
    "none": {},
    "sam": {"sharpness": "sam", "seed": 4},
    "gcsam": {"sharpness": "gcsam", "seed": 4},
    "gsam": {"sharpness": "gsam", "num_train_epochs": 1},
    "looksam": {"sharpness": "looksam"},
    "crsam": {"sharpness": "crsam"},
    "rwp": {"sharpness": "rwp", "seed": 5},
    "in a subspace": {"subspace_epochs": 2, "subspace_rank": 1},
    "micro-batches": {"sharpness": "sam", "gradient_accumulation_steps": 2, "per_device_train_batch_size": 3},
    "kgcoop": {"sharpness": "sam", "objectives": "kgcoop"},
    "prograd": {"objectives": "prograd"},
    "nfl": {"sharpness": "sam", "objectives": {"nfl": {"novel_class_names": NOVEL}}},
    "mesa": {"objectives": {"mesa": SETTINGS["mesa"]}},
}
"""One run of each kind; some are longer than others."""


def make(directory, dtype=torch.float64, shots=16, trainer_arguments=None, **arguments) -> SharpPromptTrainer:
    arguments = {"sharpness": "none", "eval_strategy": "epoch", "learning_rate": 0.02} | arguments
    data, seed = make_data(shots, dtype), arguments.get("seed", 3)
    rows = torch.randperm(shots, generator=torch.Generator().manual_seed(seed))[: shots - 4 * (seed % 2)]
    drawn = ImageFeatures(data.features[rows], data.labels[rows], CLASSES)
    extra = {"eval_dataset": make_data(10, dtype), **(trainer_arguments or {})}
    model = make_model(dtype)
    set_seed(seed)
    with torch.no_grad():
        context_of(model).normal_(std=0.02)
    return make_trainer(directory, model, drawn, extra, **arguments)


def context_of(model) -> torch.nn.Parameter:
    return model.get_base_model().text_model.embeddings.clip_prompt_context["default"]


def train_alone(trainer: SharpPromptTrainer) -> SharpPromptTrainer:
    set_seed(trainer.args.seed)
    trainer.train()
    return trainer


def measured(trainer: SharpPromptTrainer) -> list[dict[str, float]]:
    """What the run logged but for its times."""
    return [
        {name: value for name, value in entry.items() if not name.endswith(("runtime", "per_second"))}
        for entry in trainer.state.log_history
    ]


def passes(monkeypatch) -> list[int]:
    """How many runs each pass with a gradient was for."""
    sizes: list[int] = []

    class Counted(stacked.Stack):
        def __init__(self, encodings):
            if encodings[0].needs_gradient:
                sizes.append(len(encodings))
            super().__init__(encodings)

    monkeypatch.setattr(stacked, "Stack", Counted)
    return sizes


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, SharpPromptTrainer]:
    return {name: train_alone(make(tmp_path_factory.mktemp("alone"), **each)) for name, each in RUNS.items()}


def test_every_run_ends_where_it_ends_alone(alone, tmp_path, monkeypatch):
    """Otherwise a study that is run at once has other results than the papers' way."""
    sizes = passes(monkeypatch)
    trainers = {name: make(tmp_path / name, **each) for name, each in RUNS.items()}
    train_together(list(trainers.values()))
    for name, trainer in trainers.items():
        assert torch.allclose(prompt_of(trainer.model), prompt_of(alone[name].model), rtol=0, atol=1e-12), name
        for entry, expected in zip(measured(trainer), measured(alone[name]), strict=True):
            assert entry == pytest.approx(expected, rel=1e-6, abs=1e-9), name
    assert max(sizes) == len(RUNS)
    assert len(sizes) < sum(sizes) / 3


def test_runs_in_float32_differ_by_no_more_than_the_order_of_sums(tmp_path):
    runs = [{"sharpness": rule, "seed": seed} for rule in ("sam", "gcsam") for seed in (1, 2)]
    expected = [prompt_of(train_alone(make(tmp_path / "alone", torch.float32, **each)).model) for each in runs]
    trainers = [make(tmp_path / str(number), torch.float32, **each) for number, each in enumerate(runs)]
    train_together(trainers)
    for trainer, prompt in zip(trainers, expected, strict=True):
        assert torch.allclose(prompt_of(trainer.model), prompt, rtol=0, atol=1e-6)


def test_deeper_text_tokens_are_stacked_as_well(tmp_path, monkeypatch):
    def trainer(name, rule):
        return make_trainer(tmp_path / name, make_model(text_depth=2), sharpness=rule, max_steps=2)

    sizes = passes(monkeypatch)
    expected = [train_alone(trainer("alone", rule)) for rule in ("none", "sam")]
    assert not sizes
    trainers = [trainer(rule, rule) for rule in ("none", "sam")]
    train_together(trainers)
    assert max(sizes) == 2
    for one, other in zip(trainers, expected, strict=True):
        for parameter, reference in zip(one.model.parameters(), other.model.parameters(), strict=True):
            assert torch.allclose(parameter, reference, rtol=0, atol=1e-12)


@pytest.mark.parametrize("memory", [0.5, 2.5])
def test_little_memory_makes_smaller_passes_with_the_same_results(alone, tmp_path, monkeypatch, memory):
    """Otherwise many runs at once need memory without end."""
    names = ["none", "sam", "nfl", "kgcoop"]
    monkeypatch.setattr(session, "affordable_memory", lambda device: memory * one_pass)
    trainers = [make(tmp_path / name, **RUNS[name]) for name in names]
    tower = trainers[0].model.get_base_model().text_model
    texts = [each[1:] for each in trainers[0].model.active_config.class_token_ids]
    one_pass = stacked.Encoding(tower, (), torch.zeros(4, 32, dtype=torch.float64, requires_grad=True), texts).memory
    sizes = passes(monkeypatch)
    train_together(trainers)
    for name, trainer in zip(names, trainers, strict=True):
        assert torch.allclose(prompt_of(trainer.model), prompt_of(alone[name].model), rtol=0, atol=1e-12), name
    assert max(sizes) == max(1, int(memory))


class Fails(TrainerCallback):
    """Raises an error at the end of a step."""

    def __init__(self, error: BaseException, step: int) -> None:
        self.error, self.step = error, step

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step == self.step:
            raise self.error


def failing(error: BaseException, step: int = 2) -> dict[str, list[TrainerCallback]]:
    return {"callbacks": [Fails(error, step)]}


def test_an_error_ends_its_run_alone(alone, tmp_path):
    """Otherwise a run that diverges costs a night's results."""
    error = RuntimeError("broken")
    trainers = [
        make(tmp_path / "a", **RUNS["sam"]),
        make(tmp_path / "b", trainer_arguments=failing(error)),
        make(tmp_path / "c", learning_rate=1e300),
        make(tmp_path / "d", **RUNS["none"]),
    ]
    before = threading.active_count()
    outcomes = train_together(trainers, return_exceptions=True)
    assert outcomes[1] is error
    assert isinstance(outcomes[2], FloatingPointError)
    for name, number in (("sam", 0), ("none", 3)):
        prompt = prompt_of(trainers[number].model)
        assert torch.allclose(prompt, prompt_of(alone[name].model), rtol=0, atol=1e-12)
    assert threading.active_count() <= before  # of a pool of the process, others may end meanwhile


def test_the_first_error_is_raised_when_all_have_ended(tmp_path):
    trainers = [make(tmp_path / "a", trainer_arguments=failing(RuntimeError("broken")))]
    trainers += [make(tmp_path / "b")]
    with pytest.raises(RuntimeError, match="broken"):
        train_together(trainers)
    assert trainers[1].state.global_step == trainers[1].state.max_steps


class PressesCtrlC(TrainerCallback):
    """Presses Ctrl-C, of which the main thread hears, at the end of a step."""

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step == 2:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("callback", [Fails(KeyboardInterrupt(), 2), PressesCtrlC()])
def test_an_interruption_ends_all_runs(tmp_path, callback):
    """Otherwise Ctrl-C leaves threads behind that keep on training."""
    interrupting = make(tmp_path / "a", trainer_arguments={"callbacks": [callback]})
    other = make(tmp_path / "b")
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        train_together([interrupting, other])
    assert 0 < other.state.global_step < other.state.max_steps
    assert threading.active_count() <= before  # of a pool of the process, others may end meanwhile


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_what_fails_for_all_at_once_is_computed_one_after_the_other(alone, tmp_path, monkeypatch, caplog, where):
    """An accelerator's memory may end although an estimate said that it does not."""

    class Failing(stacked.Stack):
        def __init__(self, encodings):
            self.size = len(encodings)
            if where == "forward" and self.size > 1:
                raise torch.OutOfMemoryError("no memory")
            super().__init__(encodings)

        def compute_gradients(self):
            if where == "backward" and self.size > 1:
                raise torch.OutOfMemoryError("no memory")
            return super().compute_gradients()

    monkeypatch.setattr(stacked, "Stack", Failing)
    trainers = [make(tmp_path / name, **RUNS[name]) for name in ("sam", "nfl")]
    train_together(trainers)
    for name, trainer in zip(("sam", "nfl"), trainers, strict=True):
        assert torch.allclose(prompt_of(trainer.model), prompt_of(alone[name].model), rtol=0, atol=1e-12)
    assert "no memory" in caplog.text


def test_a_pass_that_fails_for_one_ends_that_run_alone(alone, tmp_path, monkeypatch):
    trainers = [make(tmp_path / "none", **RUNS["none"] | {"seed": 9}), make(tmp_path / "sam", **RUNS["sam"])]

    class Failing(stacked.Stack):
        def __init__(self, encodings):
            if any(torch.equal(each.prefix[1:], context_of(trainers[0].model)) for each in encodings):
                raise ValueError("this context")
            super().__init__(encodings)

    monkeypatch.setattr(stacked, "Stack", Failing)
    outcomes = train_together(trainers, return_exceptions=True)
    assert str(outcomes[0]) == "this context"
    assert torch.allclose(prompt_of(trainers[1].model), prompt_of(alone["sam"].model), rtol=0, atol=1e-12)


def test_a_run_is_resumed_where_it_stopped(alone, tmp_path):
    resumable = RUNS["sam"] | {"save_strategy": "epoch"}
    with pytest.raises(RuntimeError, match="broken"):
        train_alone(make(tmp_path, trainer_arguments=failing(RuntimeError("broken"), 4), **resumable))
    trainers = [make(tmp_path, **resumable)]
    train_together(trainers, resume_from_checkpoint=True)
    assert torch.allclose(prompt_of(trainers[0].model), prompt_of(alone["sam"].model), rtol=0, atol=1e-12)


def test_a_runs_time_is_its_own(tmp_path):
    """The sum over the runs is what passed, so that costs can be compared."""
    trainers = [make(tmp_path / str(number), seed=number) for number in range(4)]
    started = perf_counter()
    outputs = train_together(trainers)
    own = [output.metrics["train_runtime"] for output in outputs]
    assert sum(own) < perf_counter() - started


def test_weights_that_are_equal_share_their_memory(tmp_path):
    """Otherwise many runs hold as many models."""
    one, other, different = (make_model() for _ in range(3))
    layer = "get_base_model().text_model.encoder.layers[0].mlp.fc1.weight"
    with torch.no_grad():
        different.get_base_model().text_model.encoder.layers[0].mlp.fc1.weight += 1
    share_equal_weights([one, other, different])
    first, second, third = (eval(f"model.{layer}", {"model": each}) for each in (one, other, different))
    assert first.data_ptr() == second.data_ptr() != third.data_ptr()
    assert context_of(one).data_ptr() != context_of(other).data_ptr()


def test_a_copy_takes_no_memory_and_changes_alone():
    """Otherwise each run holds a model of its own, or one that is cast to half precision casts all others."""
    model = make_model().get_base_model()
    trains = [each.requires_grad for each in model.parameters()]
    first, second = copy_with_same_weights(model), copy_with_same_weights(model)
    pointers = [[each.data_ptr() for each in one.parameters()] for one in (model, first, second)]
    assert pointers[0] == pointers[1] == pointers[2]
    first.requires_grad_(True).to(torch.float16)
    for other in (model, second):
        assert {each.dtype for each in other.parameters()} == {torch.float64}
        assert [each.requires_grad for each in other.parameters()] == trains


def test_runs_of_different_models_are_not_mixed(tmp_path, monkeypatch):
    trainers = [make(tmp_path / str(number), seed=3) for number in range(2)]
    with torch.no_grad():
        trainers[1].model.get_base_model().text_model.final_layer_norm.weight *= 1.5
    expected = make(tmp_path / "alone", seed=3)
    with torch.no_grad():
        expected.model.get_base_model().text_model.final_layer_norm.weight *= 1.5
    train_alone(expected)
    sizes = passes(monkeypatch)
    train_together(trainers)
    assert set(sizes) == {1}
    assert torch.allclose(prompt_of(trainers[1].model), prompt_of(expected.model), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"num_vision_tokens": 2}, "image tower"),
        ({"conditional": True}, "conditioned on images"),
        ({"class_token_position": "front"}, "behind the same context"),
        ({"class_chunk_size": 2}, "class_chunk_size"),
        ({"modules_to_save": ["text_projection"]}, "more than its prompts"),
    ],
)
def test_what_cannot_be_trained_together_is_trained_alone_and_the_log_says_why(tmp_path, caplog, config, reason):
    trainer = make_trainer(tmp_path, make_model(**config))
    assert reason in (why_alone(trainer) or "")
    if "num_vision_tokens" in config:
        return  # The small data have no pixels.
    with caplog.at_level(logging.WARNING, "hf_sharp_prompt"):
        train_together([trainer])
    assert reason in caplog.text
    assert trainer.state.global_step == trainer.state.max_steps
