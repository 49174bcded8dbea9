from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers import PreTrainedConfig
from transformers.backbone_utils import BackboneMixin
from transformers.loss.loss_utils import fixed_cross_entropy
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.utils import can_return_tuple

from ..adapter_file import check_state_dict, shapes_of_saved_modules
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


class ViTPromptModel(BaseTuner):
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
    tuner_layer_cls = ViTPrompt

    @can_return_tuple
    def classify(
        self,
        pixel_values: torch.Tensor,
        labels: torch.LongTensor | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        **kwargs: Any,
    ) -> ImageClassifierOutput:
        """Classify images; what `model(pixel_values=…, labels=…)` calls.

        Args:
            pixel_values: Images as the model's processor makes them, batch × channels × height × width.
            labels: Class indices, batch; without them no loss is computed.
            num_items_in_batch: What the summed loss is divided by when the batch is part of a larger one, as the
                Trainer asks; by default the batch's own size.
            **kwargs: Passed on to the model, e.g. `interpolate_pos_encoding`.

        Returns:
            `loss` (cross entropy, with labels), `logits` (batch × classes), and `hidden_states` and `attentions` where
            asked for.

        Raises:
            ValueError: Labels, but neither adapter nor model has a head.
        """
        if self.prompt.active_config.head is None:
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
        loss = None if labels is None else fixed_cross_entropy(logits, labels, num_items_in_batch)
        return ImageClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)

    @property
    def tower(self) -> nn.Module:
        return self.model.get_submodule(self.tower_name)

    @property
    def prompt(self) -> ViTPrompt:
        """The learned tokens and heads of all adapters."""
        return self.tower.prompt

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """Make one adapter the active one.

        Raises:
            ValueError: Several adapters are named; two prompts cannot stand in the same place.
        """
        if not isinstance(adapter_name, str) and len(adapter_name) > 1:
            raise ValueError(f"One prompt adapter can be active at a time, got {list(adapter_name)}.")
        super().set_adapter(adapter_name, inference_mode=inference_mode)

    def unload(self) -> nn.Module:
        """Take the tokens and heads out and return the base model as it was."""
        vars(self.model).pop("forward", None)
        vars(self.model).update(self._replaced_forward)
        self.prompt.travelling.remove()
        del self.tower.prompt
        for module in self.model.modules():
            if isinstance(module, ModulesToSaveWrapper):
                module.set_adapter([])  # or else PEFT would leave the trained copy in the place of the original
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

    def _post_injection_hook(self, model: nn.Module, config: PeftConfig, adapter_name: str) -> None:
        """Let the model's own `forward` classify; `PeftModel.forward` calls the base model, not the tuner."""
        # What stood on the instance before, if anything (Accelerate puts its hooks there).
        self._replaced_forward = {name: value for name, value in vars(model).items() if name == "forward"}
        self._base_forward = model.forward
        model.forward = self._forward_or_classify

    def _forward_or_classify(
        self,
        pixel_values: torch.Tensor | None = None,
        *args: Any,
        labels: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> Any:
        config = self.prompt.active_config
        if config is not None and (config.head is not None or labels is not None):
            return self.classify(pixel_values, *args, labels=labels, **kwargs)
        if labels is not None:
            kwargs["labels"] = labels
        return self._base_forward(pixel_values, *args, **kwargs)

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
        if peft_config.made_for not in (None, here):
            raise ValueError(
                f"This adapter is made for a {_describe(peft_config.made_for)}, but the model is a {_describe(here)}. "
                "Load it onto the model that it was trained for, or make a new config for this one."
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
        peft_config.made_for = here
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

    def _check_merge_allowed(self) -> None:
        raise ValueError(
            "Prompts are inputs, not weights, and cannot be merged into the model. Keep the adapter active, or call "
            "unload() to get the base model back."
        )


def _describe(made_for: dict[str, Any]) -> str:
    return f"{made_for['model']} of width {made_for['width']} with {made_for['layers']} layers"


def _sizes(config: ViTPromptConfig, tower: nn.Module) -> tuple[int, int, int]:
    """How many layers are prompted, and the widths of the tower and of what the head sees."""
    width = config.made_for["width"]
    widths = MODEL_POOLINGS[tower.config.model_type].widths if config.pooling == "model" else 1
    return config.depth or config.made_for["layers"], width, widths * width
