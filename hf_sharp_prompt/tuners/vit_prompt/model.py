from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig
from torch import nn
from transformers import PreTrainedConfig
from transformers.backbone_utils import BackboneMixin
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.utils import can_return_tuple

from ..adapter_file import check_state_dict, shapes_of_saved_modules
from ..class_loss import class_loss
from ..prompt_model import PromptModel
from ..registration import PromptPeftType
from ..vision_tower import VISION_TOWERS, find_vision_tower
from .config import ViTPromptConfig
from .layer import ViTPrompt


@dataclass(frozen=True)
class Pooling:
    """What a model's own `ForImageClassification` classifies.

    Args:
        feature: From the tower's outputs and config to the feature, batch × width.
        widths: How many times the tower's width it is wide.
    """

    feature: Callable[[BaseModelOutputWithPooling, PreTrainedConfig], torch.Tensor]
    widths: int = 1


def cls(outputs: BaseModelOutputWithPooling, config: PreTrainedConfig) -> torch.Tensor:
    """CLS after the final norm."""
    return outputs.last_hidden_state[:, 0]


def cls_and_patches(outputs: BaseModelOutputWithPooling, config: PreTrainedConfig) -> torch.Tensor:
    """CLS and the mean of the patches, side by side."""
    registers = getattr(config, "num_register_tokens", 0)
    return torch.cat([cls(outputs, config), outputs.last_hidden_state[:, 1 + registers :].mean(dim=1)], dim=1)


def pooler(outputs: BaseModelOutputWithPooling, config: PreTrainedConfig) -> torch.Tensor:
    """What the model's pooling layer gives."""
    if outputs.pooler_output is None:
        raise ValueError(
            "pooling='model' needs the model's pooling layer, but it was made without (add_pooling_layer=False); use "
            "pooling='cls'."
        )
    return outputs.pooler_output


# The model types that ViTPromptConfig knows. To make another one known, add it here and to `VISION_TOWERS`.
MODEL_POOLINGS = {
    "vit": Pooling(cls),
    "deit": Pooling(cls),
    "beit": Pooling(pooler),
    "dinov2": Pooling(cls_and_patches, widths=2),
    "dinov2_with_registers": Pooling(cls_and_patches, widths=2),
}


class ViTPromptModel(PromptModel):
    """Puts learned tokens into a vision transformer, and classifies images with it.

    Made by `get_peft_model(vit, ViTPromptConfig(...))`; its methods are called on the `PeftModel` that returns.

    Args:
        model: A ViT, DeiT, BEiT or DINOv2 model, bare or with a head.
        peft_config: A [`ViTPromptConfig`].
        adapter_name: The adapter's name.

    Raises:
        ValueError: A model of unknown type; more prompted layers than it has; a head on a backbone; a config that was
            made for another model.

    Example:
        ```py
        >>> model = get_peft_model(vit, ViTPromptConfig(class_names=["abyssinian", "beagle"]))
        >>> model(pixel_values=pixel_values, labels=labels).loss
        ```
    """

    prefix = "vit_prompt_"
    peft_type = PromptPeftType.VIT_PROMPT
    tuner_layer_cls = ViTPrompt

    @can_return_tuple
    def classify(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        *,
        adapter: str | None = None,
        **kwargs: Any,
    ) -> ImageClassifierOutput:
        """Classify images; what `model(pixel_values=…, labels=…)` calls.

        Args:
            pixel_values: Images as the model's processor makes them, batch × channels × height × width.
            labels: Class indices, batch, or probabilities, batch × classes; without them no loss is computed.
            num_items_in_batch: What the summed loss is divided by when the batch is part of a larger one, as the
                Trainer asks; by default the batch's own size.
            adapter: The adapter that answers this call, or `"__base__"` for the model without prompts, instead of
                the active one. It changes nothing on the model.
            **kwargs: Passed on to the model, e.g. `interpolate_pos_encoding`.

        Returns:
            `loss` (cross entropy, with labels), `logits` (batch × classes), and `hidden_states` and `attentions` where
            asked for.

        Raises:
            ValueError: Labels, but neither adapter nor model has a head; a label outside the classes; an adapter that
                there is not.
        """
        with nullcontext() if adapter is None else self.using_adapter(adapter):
            return self._classify(pixel_values, labels, num_items_in_batch, **kwargs)

    def _classify(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None,
        num_items_in_batch: int | torch.Tensor | None,
        **kwargs: Any,
    ) -> ImageClassifierOutput:
        config = self.prompt.active_config
        if config is None or config.head is None:
            outputs = self._base_forward(pixel_values, **kwargs, return_dict=True)
            logits = getattr(outputs, "logits", None)
            if logits is None:
                raise ValueError(
                    f"Neither the adapter nor {type(self.model).__name__} has a head to classify with; set head and "
                    "class_names in ViTPromptConfig, or load the model's ForImageClassification class."
                )
        else:
            features, outputs = self._class_features(pixel_values, **kwargs)
            logits = self.prompt(features)
        loss = None if labels is None else class_loss(logits, labels, num_items_in_batch)
        return ImageClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)

    @property
    def tower(self) -> nn.Module:
        return self.model.get_submodule(self.tower_name)

    @property
    def prompt(self) -> ViTPrompt:
        """The learned tokens and heads of all adapters."""
        return self.tower.prompt

    def unload(self) -> nn.Module:
        """Take the tokens and heads out and return the base model as it was."""
        self.prompt.travelling.remove()
        del self.tower.prompt
        return super().unload()

    def _class_features(
        self, pixel_values: torch.Tensor, **kwargs: Any
    ) -> tuple[torch.Tensor, BaseModelOutputWithPooling]:
        # A bare model is its own tower, and its forward is the one that classifies.
        run_tower = self._base_forward if self.tower is self.model else self.tower
        with self.prompt.travelling.collect_outputs() as of_tokens:
            outputs = run_tower(pixel_values, **kwargs, return_dict=True)
        pooling, config = self.prompt.active_config.pooling, self.tower.config
        if pooling == "model":
            return MODEL_POOLINGS[config.model_type].feature(outputs, config), outputs
        if pooling == "cls":
            return cls(outputs, config), outputs
        return (cls(outputs, config) + of_tokens[0].mean(dim=1)) / 2, outputs

    _classifies = True

    @property
    def _class_names(self) -> Sequence[str] | None:
        prompt = self.prompt
        config = prompt.configs.get(next(iter(prompt.active_adapters), None))
        if prompt.disable_adapters or config is None or config.head is None:
            return None
        return config.class_names or [f"LABEL_{index}" for index in range(config.num_labels)]

    def _forward_or_classify(
        self, pixel_values: torch.Tensor | None = None, *args: Any, labels: torch.Tensor | None = None, **kwargs: Any
    ) -> Any:
        # The names are for those who ask what the model takes, as the Trainer does.
        return super()._forward_or_classify(pixel_values, *args, labels=labels, **kwargs)

    def _answer(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        adapter: str | None = None,
        **kwargs: Any,
    ) -> Any:
        with nullcontext() if adapter is None else self.using_adapter(adapter):
            config = self.prompt.active_config
            if config is None and self._class_names is None:  # the model as it is, with a loss of its own
                return self._base_forward(pixel_values, **({} if labels is None else {"labels": labels}), **kwargs)
            if labels is not None or (config is not None and config.head is not None):
                return self.classify(pixel_values, labels, **kwargs)
            return self._base_forward(pixel_values, **kwargs)

    def _prepare_adapter_config(self, peft_config: ViTPromptConfig, model_config: dict) -> ViTPromptConfig:
        model_type = model_config.get("model_type")
        if model_type not in MODEL_POOLINGS:
            raise ValueError(
                f"ViTPromptConfig does not know models of type {model_type!r}; it knows "
                f"{', '.join(sorted(MODEL_POOLINGS))}. CLIP-like models take CLIPPromptConfig. To add a type, set "
                f"hf_sharp_prompt.tuners.vit_prompt.MODEL_POOLINGS[{model_type!r}] and "
                f"hf_sharp_prompt.tuners.vision_tower.VISION_TOWERS[{model_type!r}]."
            )
        tower, parts = find_vision_tower(self.model)
        layers = len(tower.get_submodule(parts.layers))
        here = {"model": type(self.model).__name__, "width": tower.config.hidden_size, "layers": layers}
        if peft_config.base_model_sizes not in (None, here):
            raise ValueError(
                f"This adapter is made for a {_describe(peft_config.base_model_sizes)}, but the model is a "
                f"{_describe(here)}. Load it onto the model that it was trained for, or make a new config for this "
                "one."
            )
        if peft_config.depth is not None and peft_config.depth > layers:
            raise ValueError(
                f"depth is {peft_config.depth}, but {here['model']} has {layers} layers; the most that fits is "
                f"depth={layers}, or None for every layer."
            )
        if peft_config.head is not None and isinstance(self.model, BackboneMixin):
            raise ValueError(
                f"head={peft_config.head!r} needs class features, but {here['model']} gives feature maps; set "
                "head=None, or load the model as AutoModel."
            )
        peft_config.base_model_sizes = here
        self._check_file(peft_config, tower)
        peft_config.target_modules = VISION_TOWERS[model_type].embeddings
        return peft_config

    def _check_file(self, config: ViTPromptConfig, tower: nn.Module) -> None:
        """Compare the tensors in the adapter's file with those that are about to be made.

        Raises:
            ValueError: They differ.
        """
        expected = shapes_of_saved_modules(self.model, config.modules_to_save)
        name = next(name for name, module in self.model.named_modules() if module is tower)
        for part, shape in config.tensor_shapes(*_sizes(config, tower)).items():
            expected["base_model.model." + f"{name}.prompt.{part}".lstrip(".")] = shape
        config.check_file(expected, type(self.model).__name__)

    def _create_and_replace(
        self,
        peft_config: ViTPromptConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
    ) -> None:
        # PEFT finds the embeddings; the tower is what holds them.
        tower, parts = parent, VISION_TOWERS[parent.config.model_type]
        self.tower_name = current_key.rpartition(".")[0]
        if not hasattr(tower, "prompt"):
            tower.prompt = ViTPrompt(tower, parts)
        depth, _, feature_width = _sizes(peft_config, tower)
        tower.prompt.update_layer(adapter_name, peft_config, target, depth, feature_width)

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: PeftConfig, adapter_name: str, state_dict: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        state_dict = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        check_state_dict(
            model,
            adapter_name,
            state_dict,
            lambda key: cls.prefix in key and cls._remove_adapter_name_from_key(key, adapter_name) != key,
        )
        return state_dict


def _describe(sizes: dict[str, Any]) -> str:
    return f"{sizes['model']} of width {sizes['width']} with {sizes['layers']} layers"


def _sizes(config: ViTPromptConfig, tower: nn.Module) -> tuple[int, int, int]:
    """How many layers are prompted, and the widths of the tower and of what the head sees."""
    width = config.base_model_sizes["width"]
    widths = MODEL_POOLINGS[tower.config.model_type].widths if config.pooling == "model" else 1
    return config.depth or config.base_model_sizes["layers"], width, widths * width
