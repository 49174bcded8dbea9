"""What holds for every prompt design on every model it knows: DESIGN.md, "tuners: what must hold"."""

from __future__ import annotations

import copy
import dataclasses
import json
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModel, PeftConfig, PeftModel, get_peft_model
from safetensors import safe_open
from torch import nn


@dataclass
class Case:
    """A design on a model.

    Args:
        make_base: A fresh base model in a precision, always with the same weights.
        make_config: A fresh config.
        batch: Inputs with labels.
        wrap: From base model and config to a model that classifies `batch`.
        of_base: Inputs of the base model, where it takes others than a prompted one.
    """

    make_base: Callable[[torch.dtype], nn.Module]
    make_config: Callable[[], PeftConfig]
    batch: dict[str, torch.Tensor]
    wrap: Callable[..., PeftModel] = get_peft_model
    of_base: dict[str, torch.Tensor] | None = None

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        if self.of_base is not None:
            return self.of_base
        return {name: value for name, value in self.batch.items() if name != "labels"}

    def base(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        return self.make_base(dtype).eval()

    def prompted(self, dtype: torch.dtype = torch.float32, base: nn.Module | None = None, seed: int = 0) -> PeftModel:
        """With learned parts that are not small, so that they matter."""
        model = self.wrap(base if base is not None else self.base(dtype), self.make_config()).eval()
        randomise(model, seed)
        return model

    def saved(self, tmp_path: Path) -> PeftModel:
        model = self.prompted()
        model.save_pretrained(tmp_path / "adapter")
        return model

    def logits(self, model: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return model(**self.batch).logits

    def loss(self, model: nn.Module) -> torch.Tensor:
        return model(**self.batch).loss

    def loss_and_gradients(self, model: nn.Module) -> tuple[torch.Tensor, list[torch.Tensor]]:
        parameters = trained(model).values()
        loss = self.loss(model)
        return loss.detach(), list(torch.autograd.grad(loss, list(parameters)))


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def randomise(model: nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in trained(model).items():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
            if name.endswith("linear1.bias"):
                parameter += 2  # so that its ReLU lets something through


def a_step(case: Case, model: nn.Module) -> None:
    optimizer = torch.optim.SGD(trained(model).values(), lr=0.5, weight_decay=0.1)
    case.loss(model).backward()
    optimizer.step()
    optimizer.zero_grad()


def hooks_of(model: nn.Module) -> list[Any]:
    """Those of every module; transformers itself puts some on where it records hidden states."""
    return [[*module._forward_pre_hooks.values(), *module._forward_hooks.values()] for module in model.modules()]


def in_precision(batch: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in batch.items()}


def assert_equal_outputs(actual: Any, expected: Any) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(actual[name], value), name


def disabled_it_is_the_base_model_bit_for_bit(case: Case, tmp_path: Path) -> None:
    """Otherwise comparisons with the base model compare with something else."""
    with torch.no_grad():
        expected = case.base()(**case.inputs)
        model = case.prompted()
        with model.disable_adapter():
            assert_equal_outputs(model(**case.inputs), expected)
    enabled = case.logits(model)
    assert "logits" not in expected or not torch.equal(enabled, expected.logits), "and enabled it is not"


def only_the_learned_parts_train(case: Case, tmp_path: Path) -> None:
    """Otherwise the adapter alone does not reproduce what was trained."""
    model = case.prompted()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    names = list(trained(model))
    model.train()
    for _ in range(2):
        a_step(case, model)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == set(names)


def the_saved_file_holds_the_learned_parts_alone(case: Case, tmp_path: Path) -> None:
    """Otherwise shared adapters are large, or carry someone's copy of the base model."""
    model = case.saved(tmp_path)
    with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", framework="pt") as file:
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    learned = {
        name.replace(".default", "").replace(".modules_to_save", ""): value for name, value in trained(model).items()
    }
    assert held.keys() == learned.keys()
    assert all(torch.equal(value, learned[name]) for name, value in held.items())
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert "target_modules" not in config, "found from the base model"


def a_loaded_adapter_gives_the_same_bits(case: Case, tmp_path: Path) -> None:
    """Otherwise what is shared is not what was trained."""
    model = case.saved(tmp_path)
    loaded = PeftModel.from_pretrained(case.base(), tmp_path / "adapter")
    assert not trained(loaded)
    assert torch.equal(case.logits(loaded.eval()), case.logits(model))


def auto_peft_model_finds_the_base_model(case: Case, tmp_path: Path) -> None:
    """Otherwise an adapter cannot be loaded by its own name alone."""
    case.base().save_pretrained(tmp_path / "base")
    base_class = type(case.base())
    model = case.prompted(base=base_class.from_pretrained(tmp_path / "base"))
    model.save_pretrained(tmp_path / "adapter")
    loaded = AutoPeftModel.from_pretrained(tmp_path / "adapter")
    assert torch.equal(case.logits(loaded.eval()), case.logits(model))


def low_cpu_mem_usage_loads_the_same(case: Case, tmp_path: Path) -> None:
    """Otherwise the learned parts stay on the meta device, or are drawn again."""
    model = case.saved(tmp_path)
    loaded = PeftModel.from_pretrained(case.base(), tmp_path / "adapter", low_cpu_mem_usage=True)
    assert not any(parameter.is_meta for parameter in loaded.parameters())
    learned = trained(model)
    assert all(torch.equal(loaded.get_parameter(name), value) for name, value in learned.items())
    # Not the same bits: the file's tensors lie elsewhere in memory, and products of matrices depend on that.
    assert_close(case.logits(loaded.eval()), case.logits(model))


def training_continues_from_a_loaded_adapter(case: Case, tmp_path: Path) -> None:
    """Otherwise an adapter cannot be tuned further."""
    model = case.saved(tmp_path)
    loaded = PeftModel.from_pretrained(case.base(), tmp_path / "adapter", is_trainable=True).eval()
    assert trained(loaded).keys() == trained(model).keys()
    for each in (model, loaded):
        a_step(case, each)
    assert torch.equal(case.logits(loaded), case.logits(model))


def two_adapters_stand_side_by_side(case: Case, tmp_path: Path) -> None:
    """Otherwise one adapter's training or inference uses the other's learned parts."""
    model = case.saved(tmp_path)
    first = case.logits(model)
    first_names = trained(model).keys()
    with torch.no_grad():
        for parameter in trained(model).values():
            parameter.mul_(0.5)
    halved = case.logits(model)
    model.load_adapter(tmp_path / "adapter", "second")
    model.eval()
    assert torch.equal(case.logits(model), halved), "loading does not activate"
    assert trained(model).keys() == first_names
    model.set_adapter("second")
    assert torch.equal(case.logits(model), first)
    assert trained(model).keys().isdisjoint(first_names)
    a_step(case, model)
    assert not torch.equal(case.logits(model), first)
    model.set_adapter("default")
    assert torch.equal(case.logits(model), halved), "and training the second left the first as it was"
    assert trained(model).keys() == first_names


def a_deleted_adapter_is_gone(case: Case, tmp_path: Path) -> None:
    """Otherwise a deleted adapter goes on working, or the model stops."""
    model = case.saved(tmp_path)
    first = case.logits(model)
    model.load_adapter(tmp_path / "adapter", "second")
    model.set_adapter("second")
    randomise(model, seed=1)
    assert not torch.equal(case.logits(model), first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PEFT says which adapter is active now
        model.delete_adapter("second")
    assert torch.equal(case.logits(model.eval()), first)
    assert not any("second" in name for name in model.state_dict())
    model.delete_adapter("default")
    with torch.no_grad():
        assert_equal_outputs(model.base_model.model(**case.inputs), case.base()(**case.inputs))


def unload_gives_the_base_model_back(case: Case, tmp_path: Path) -> None:
    """Otherwise the base model keeps hooks or a replaced forward, and goes on being prompted."""
    base = case.base()
    with torch.no_grad():
        before = base(**case.inputs)
    names, keys, hooks = [name for name, _ in base.named_modules()], list(base.state_dict()), hooks_of(base)
    for _ in range(2):  # and it can be prompted again
        model = case.prompted(base=base)
        assert model.unload() is base
        with torch.no_grad():
            assert_equal_outputs(base(**case.inputs), before)
        assert [name for name, _ in base.named_modules()] == names
        assert list(base.state_dict()) == keys
        assert hooks_of(base) == hooks
        assert "forward" not in vars(base)


def merging_is_refused(case: Case, tmp_path: Path) -> None:
    """Otherwise the prompt is silently dropped, and the model shared without it."""
    model = case.prompted()
    for merge in (model.merge_and_unload, model.merge_adapter):
        with pytest.raises(ValueError, match=r"call unload\(\) to get the base|merge_and_unload\(tokenizer="):
            merge()


def a_deep_copy_is_independent(case: Case, tmp_path: Path) -> None:
    """Otherwise training a copy (for an average of the weights, say) trains the original."""
    model = case.prompted()
    before = case.logits(model)
    copied = copy.deepcopy(model)
    assert torch.equal(case.logits(copied), before)
    a_step(case, copied)
    assert not torch.equal(case.logits(copied), before)
    assert torch.equal(case.logits(model), before)
    base = copied.unload()
    assert "forward" not in vars(base)
    with torch.no_grad():
        assert_equal_outputs(base(**case.inputs), case.base()(**case.inputs))
    assert torch.equal(case.logits(model), before)


def a_half_precision_base_trains_float32_parts(case: Case, tmp_path: Path) -> None:
    """Otherwise small updates are rounded away, or half-precision models cannot be used."""
    expected = case.logits(case.saved(tmp_path))
    for dtype in (torch.float16, torch.bfloat16):
        model = PeftModel.from_pretrained(case.base(dtype), tmp_path / "adapter", is_trainable=True).eval()
        half = dataclasses.replace(case, batch=in_precision(case.batch, dtype))
        difference = (half.logits(model).float() - expected).abs().max() / expected.abs().max()
        assert float(difference) < (0.02 if dtype == torch.float16 else 0.1)
        half.loss(model).backward()
        for name, parameter in trained(model).items():
            if "modules_to_save" not in name:  # PEFT keeps them as they are in the base model
                assert parameter.dtype == parameter.grad.dtype == torch.float32, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.norm() > 0, name


def autocast_adapter_dtype_is_respected(case: Case, tmp_path: Path) -> None:
    """Otherwise PEFT's switch for the adapter's precision does nothing."""
    case.saved(tmp_path)
    for autocast, dtype in ((True, torch.float32), (False, torch.bfloat16)):
        base = case.base(torch.bfloat16)
        model = case.wrap(base, case.make_config(), autocast_adapter_dtype=autocast)
        model.add_adapter("other", case.make_config(), autocast_adapter_dtype=autocast)
        model.load_adapter(tmp_path / "adapter", "loaded", autocast_adapter_dtype=autocast)
        for name in ("default", "other", "loaded"):
            model.set_adapter(name)
            learned = {key: value for key, value in trained(model).items() if "modules_to_save" not in key}
            assert {parameter.dtype for parameter in learned.values()} == {dtype}


def gradient_checkpointing_gives_the_same(case: Case, tmp_path: Path) -> None:
    """Otherwise saving memory costs the gradient."""
    model = case.prompted()
    loss, gradients = case.loss_and_gradients(model)
    model.train()
    for module in model.modules():
        if not hasattr(module, "gradient_checkpointing"):  # dropout would differ
            module.training = False
    model.gradient_checkpointing_enable()
    checkpointed_loss, checkpointed = case.loss_and_gradients(model)
    assert_close(checkpointed_loss, loss)
    for actual, expected in zip(checkpointed, gradients, strict=True):
        assert_close(actual, expected)


def compiled_it_gives_the_same(case: Case, backend: str = "aot_eager") -> None:
    """Otherwise `torch.compile` cannot be used, or trains something else."""
    model = case.prompted()
    loss, gradients = case.loss_and_gradients(model)
    torch._dynamo.reset()
    parameters = list(trained(model).values())
    compiled_loss = case.loss(torch.compile(model, backend=backend))
    assert_close(compiled_loss.detach(), loss)
    for actual, expected in zip(torch.autograd.grad(compiled_loss, parameters), gradients, strict=True):
        assert_close(actual, expected)


def assert_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))


# Without the one that compiles, which takes seconds.
CHECKS = [
    disabled_it_is_the_base_model_bit_for_bit,
    only_the_learned_parts_train,
    the_saved_file_holds_the_learned_parts_alone,
    a_loaded_adapter_gives_the_same_bits,
    auto_peft_model_finds_the_base_model,
    low_cpu_mem_usage_loads_the_same,
    training_continues_from_a_loaded_adapter,
    two_adapters_stand_side_by_side,
    a_deleted_adapter_is_gone,
    unload_gives_the_base_model_back,
    merging_is_refused,
    a_deep_copy_is_independent,
    a_half_precision_base_trains_float32_parts,
    autocast_adapter_dtype_is_respected,
    gradient_checkpointing_gives_the_same,
]


def by_turns(pairs: list[tuple[str, str]]) -> list[tuple[str, str, Callable[[Case, Path], None]]]:
    """Designs, models and checks: each check meets every design and every model.

    Not all threes: what a check finds depends on the design or on the model, hardly ever on both at once. The
    comparisons with slow arithmetic take every design to every model.

    Args:
        pairs: Each design with each model on which it has a meaning.
    """
    partners = Counter(name for pair in pairs for name in pair)
    cases, met = [], set()
    for check in CHECKS:
        missing = set(partners)
        while missing:
            # Those first that fit few others, as they would be left over; then pairs that no check has met.
            rarest = min(sorted(missing), key=lambda name: partners[name])
            fitting = [pair for pair in pairs if rarest in pair]
            pair = max(fitting, key=lambda pair: (len(missing.intersection(pair)), pair not in met))
            cases.append((*pair, check))
            missing.difference_update(pair)
            met.add(pair)
    return cases
