"""The attention, the recording and the gradient checkpointing of transformers' models."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch import nn
from transformers import AttentionInterface, PreTrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import output_capturing


class RoutedConfig:
    """A model's config as its attention modules see it: the same, but that it names another attention function.

    An attention module looks its function up by `config._attn_implementation` at every call. The choice has to outlast
    the call: layers under gradient checkpointing run again in the backward pass, and other threads may use the model.
    So the modules get this config, and the function asks [`configured_attention`] for all other calls.

    Read on transformers 5.24.0.

    Args:
        base: The config.
        attention: The name of the attention function, as registered with `transformers.AttentionInterface`.
    """

    base: PreTrainedConfig

    def __init__(self, base: PreTrainedConfig, attention: str) -> None:
        vars(self).update(base=base, _attn_implementation=attention)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.base, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.base, name, value)

    def __reduce__(self) -> tuple[type[RoutedConfig], tuple[PreTrainedConfig, str]]:
        return type(self), (self.base, vars(self)["_attn_implementation"])


def configured_attention(module: nn.Module) -> Callable[..., Any]:
    """Return the attention function that the config behind a module's [`RoutedConfig`] names.

    transformers has no public name for a model's eager attention: it is a function of the model's file.

    Read on transformers 5.24.0.
    """
    config = module.config
    assert isinstance(config, RoutedConfig)
    eager = sys.modules[type(module).__module__].eager_attention_forward  # an import would break compiled graphs
    return AttentionInterface().get_interface(config.base._attn_implementation, eager)


def is_recording() -> bool:
    """True within a pass of which hidden states or attentions are recorded, as `output_hidden_states=True` asks for.

    transformers records them by hooks, which look for a collector, and has no public name for it.

    Read on transformers 5.24.0.
    """
    return bool(output_capturing._active_collector.get())


def checkpointing_repeats_hooks(model: nn.Module) -> bool:
    """True if gradient checkpointing is on and covers a layer's call with its hooks instead of its forward alone.

    A version that covers the call runs the hooks again in the backward pass. This one covers the forward; earlier ones
    covered the call, and there is no public sign of it.

    Read on transformers 5.24.0.
    """
    covers_calls = "__call__" in vars(GradientCheckpointingLayer)
    layers = (module for module in model.modules() if isinstance(module, GradientCheckpointingLayer))
    return covers_calls and any(layer.gradient_checkpointing for layer in layers)
