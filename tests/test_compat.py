"""A release of peft, transformers or accelerate that changes what compat reaches into is noticed here."""

import copy
import inspect
import json
import pickle
from importlib import import_module

import pytest
import torch
from accelerate.commands.launch import launch_command_parser
from accelerate.state import GradientState
from accelerate.utils.launch import prepare_multi_gpu_env
from peft import PeftModel, get_peft_model
from peft.config import PeftConfigMixin
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import register_peft_method
from torch import nn
from transformers import AttentionInterface, CLIPTextConfig, CLIPTextModel

from hf_sharp_prompt import CLIPPromptConfig
from hf_sharp_prompt.compat.accelerate import SharedState, find_fsdp_settings, launched_without_fsdp
from hf_sharp_prompt.compat.peft import ReplacedForward
from hf_sharp_prompt.compat.transformers import RoutedConfig, checkpointing_repeats_hooks, configured_attention
from hf_sharp_prompt.tuners import CLIPPromptModel


def a_text_tower(**config) -> CLIPTextModel:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    return CLIPTextModel(CLIPTextConfig(vocab_size=10, eos_token_id=9, **sizes, **config))


def test_accelerate_still_keeps_its_state_where_it_is_captured():
    """Otherwise runs at once would see each other's ends of epochs."""
    state, before = GradientState(), SharedState.capture()
    state._set_sync_gradients(not state.sync_gradients)
    changed = state.sync_gradients
    before.restore()
    assert GradientState().sync_gradients is not changed, (
        "accelerate's GradientState has changed: read it again, and change hf_sharp_prompt.compat.accelerate."
    )


TEXT = torch.tensor([[0, 3, 4, 9]])


def test_peft_still_looks_the_method_up_where_it_is_explained():
    look_up = inspect.unwrap(PeftConfigMixin._get_peft_type.__func__)
    assert "Can't find" in inspect.getsource(look_up), (
        "peft's PeftConfigMixin._get_peft_type has changed: read it again, and change or drop "
        "hf_sharp_prompt.compat.peft.explain_failed_loading."
    )


def test_a_hub_that_fails_is_quoted(clip, monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("the line is dead")

    monkeypatch.setattr("peft.config.hf_hub_download", refuse)
    with pytest.raises(ValueError, match=r"Can't find 'adapter_config.json' at 'me/pets': ConnectionError: the"):
        PeftModel.from_pretrained(clip, "me/pets")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is no JSON"), (json.dumps({"r": 8}), "has no field 'peft_type'")],
)
def test_a_config_that_names_no_method_is_named(text, message, clip, tmp_path):
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(ValueError, match=f"The adapter_config.json of .* {message}"):
        PeftModel.from_pretrained(clip, str(tmp_path))


def test_peft_still_has_its_tables_of_methods():
    key = "CLIP_PROMPT"
    found = PEFT_TYPE_TO_CONFIG_MAPPING[key], PEFT_TYPE_TO_TUNER_MAPPING[key], PEFT_TYPE_TO_PREFIX_MAPPING[key]
    assert found == (CLIPPromptConfig, CLIPPromptModel, "clip_prompt_"), (
        "peft no longer finds a method that is entered in its tables: read peft.mapping again, and change "
        "hf_sharp_prompt.compat.peft.register_method."
    )


def test_peft_still_registers_no_method_from_outside():
    try:
        register_peft_method(name="my_prompt", config_cls=CLIPPromptConfig, model_cls=CLIPPromptModel)
    except ValueError:
        return
    pytest.fail("peft.utils.register_peft_method takes methods from outside: use it in compat.peft.register_method.")


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (PeftModel, "_enable_peft_forward_hooks", ["self", "args", "kwargs"]),
        (BaseTuner, "_remap_adapter_state_dict_for_load", ["model", "config", "adapter_name", "state_dict"]),
        (BaseTuner, "_remove_adapter_name_from_key", ["key", "adapter_name"]),
        (BaseTuner, "_replace_module", ["self", "parent", "child_name", "new_module", "child"]),
        (BaseTunerLayer, "_move_adapter_to_device_of_base_layer", ["self", "adapter_name", "device"]),
    ],
)
def test_peft_still_has_the_private_methods_that_are_overridden(owner, name, parameters):
    method = getattr(owner, name, None)
    found = None if method is None else list(inspect.signature(method).parameters)
    assert found == parameters, (
        f"peft's {owner.__name__}.{name} is gone or takes other arguments: read it again, and change its override in "
        "hf_sharp_prompt.compat.peft."
    )


def test_peft_still_announces_a_pass_with_adapters_for_rows(clip, pixel_values, tokenizer, monkeypatch):
    model = get_peft_model(clip, CLIPPromptConfig(num_text_tokens=1)).eval()
    model.set_classes(["cat", "dog"], tokenizer)
    announced, announce = [], CLIPPromptModel.answering_rows
    monkeypatch.setattr(
        CLIPPromptModel, "answering_rows", lambda self, names: announced.append(names) or announce(self, names)
    )
    model(pixel_values=pixel_values, adapter_names=["default"] * len(pixel_values))
    assert announced == [["default"] * len(pixel_values)], (
        "PeftModel.forward no longer enters _enable_peft_forward_hooks of the tuner: read it again, and change "
        "hf_sharp_prompt.compat.peft.OpenTuner."
    )


def test_peft_still_misses_the_adapters_name_in_modules_within_modules():
    key = "text_model.embeddings.clip_prompt_meta_net.default.linear1.weight"
    assert BaseTuner._remove_adapter_name_from_key(key, "default") == key, (
        "peft finds the adapter's name in any place of a key: drop OpenTuner._remove_adapter_name_from_key."
    )
    assert CLIPPromptModel._remove_adapter_name_from_key(key, "default") == key.replace(".default", "")
    other = "model.default.weight"
    assert CLIPPromptModel._remove_adapter_name_from_key(other, "default") == other


def test_peft_still_hands_on_a_weight_where_it_replaces_a_module():
    parent = nn.Module()
    try:
        BaseTuner._replace_module(None, parent, "embeddings", nn.Identity(), nn.Identity())
    except AttributeError:
        return
    pytest.fail("peft replaces modules without a weight: drop OpenTuner._replace_module.")


def test_an_adapter_moves_to_a_device_and_keeps_its_precision(clip, monkeypatch):
    """PEFT calls this after loading with low_cpu_mem_usage; its own method finds no weight here, and moves nothing."""
    model = get_peft_model(clip, CLIPPromptConfig(num_text_tokens=1, conditional=True))
    moves = []
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *args, **kwargs: moves.append((args, kwargs)) or self)
    model.get_base_model().text_model.embeddings._move_adapter_to_device_of_base_layer("default")
    assert moves == [((clip.device,), {})] * 5  # the context, and the weights and biases of the meta-net


def test_peft_still_runs_the_forward_of_the_base_models_instance():
    tower = a_text_tower()
    replaced = ReplacedForward(tower, lambda *args, **kwargs: "another answer")
    assert tower(TEXT) == "another answer"
    assert replaced.original(TEXT).last_hidden_state.shape == (1, 4, 8)
    replaced.restore()
    assert "forward" not in vars(tower)
    calls = inspect.getsource(PeftModel.forward)
    assert "self.get_base_model()(" in calls, (
        "PeftModel.forward no longer calls the base model: read it again, and change or drop "
        "hf_sharp_prompt.compat.peft.ReplacedForward."
    )


def test_a_forward_that_stood_on_the_instance_is_put_back():
    """Accelerate's hooks stand there."""
    tower = a_text_tower()
    tower.forward = earlier = lambda *args: "hooked"
    ReplacedForward(tower, lambda *args: "ours").restore()
    assert tower.forward is earlier


def test_transformers_still_looks_attention_up_at_every_call(monkeypatch):
    seen = []

    def attention(module, query, key, value, mask, **kwargs):
        seen.append(module)
        return configured_attention(module)(module, query, key, value, mask, **kwargs)

    AttentionInterface.register("of_test_compat", attention)
    tower = a_text_tower().eval()
    expected = tower(TEXT).last_hidden_state
    first = tower.encoder.layers[0].self_attn
    first.config = RoutedConfig(first.config, "of_test_compat")
    actual = tower(TEXT).last_hidden_state
    assert seen == [first], (
        "transformers' attention modules no longer read config._attn_implementation at every call: read them again, "
        "and change hf_sharp_prompt.compat.transformers.RoutedConfig."
    )
    assert torch.equal(actual, expected)


def test_a_routed_config_is_the_config_but_for_its_attention():
    config = CLIPTextConfig(hidden_size=8, attn_implementation="eager")
    routed = RoutedConfig(config, "shared")
    for each in (routed, copy.deepcopy(routed), pickle.loads(pickle.dumps(routed))):
        assert (each._attn_implementation, each.hidden_size, each.base.hidden_size) == ("shared", 8, 8)
    routed.output_attentions = True
    routed._attn_implementation = "sdpa"
    assert (config.output_attentions, config._attn_implementation) == (True, "sdpa")
    assert routed._attn_implementation == "shared"


@pytest.mark.parametrize("model", ["clip", "clipseg", "metaclip_2", "owlvit", "owlv2"])
def test_transformers_still_has_an_eager_attention_in_every_models_file(model):
    file = import_module(f"transformers.models.{model}.modeling_{model}")
    eager = getattr(file, "eager_attention_forward", None)
    found = None if eager is None else list(inspect.signature(eager).parameters)
    expected = ["module", "query", "key", "value", "attention_mask", "scaling", "dropout", "kwargs"]
    assert found == expected, (
        f"{file.__name__} has no eager_attention_forward of these arguments: read it again, and change "
        "hf_sharp_prompt.compat.transformers.configured_attention."
    )


def test_whether_gradient_checkpointing_repeats_hooks_is_known():
    tower, calls = a_text_tower().train(), []
    tower.encoder.layers[0].register_forward_pre_hook(lambda *args: calls.append(args))
    assert not checkpointing_repeats_hooks(tower)
    tower.gradient_checkpointing_enable()
    tower(TEXT).last_hidden_state.sum().backward()
    assert checkpointing_repeats_hooks(tower) == (len(calls) == 2), (
        "transformers' gradient checkpointing covers something else than checkpointing_repeats_hooks says: "
        "read transformers.modeling_layers.GradientCheckpointingLayer again."
    )


def test_the_launcher_still_says_by_the_environment_that_it_asks_for_fsdp(monkeypatch):
    line = (
        "--num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no --use_fsdp --fsdp_version 2 x.py"
    )
    launched = prepare_multi_gpu_env(launch_command_parser().parse_args(line.split()))
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    settings = find_fsdp_settings()
    assert (settings.fsdp_version, settings.cpu_ram_efficient_loading) == (2, True), (
        "accelerate launch tells of FSDP in another way: read it again, and change hf_sharp_prompt.compat.accelerate."
    )
    with launched_without_fsdp():
        assert find_fsdp_settings() is None
    assert find_fsdp_settings() is not None


def test_an_attention_is_found_without_breaking_a_compiled_graph():
    """A break in every layer makes compiling slower by a factor, and keeps CUDA graphs out."""
    attention = a_text_tower().encoder.layers[0].self_attn
    attention.config = RoutedConfig(attention.config, "shared_prefix")

    def attend(states: torch.Tensor) -> torch.Tensor:
        return configured_attention(attention)(attention, states, states, states, None, scaling=0.5)[0]

    states = torch.randn(1, 2, 3, 4)
    assert torch.equal(torch.compile(attend, backend="eager", fullgraph=True)(states), attend(states))
