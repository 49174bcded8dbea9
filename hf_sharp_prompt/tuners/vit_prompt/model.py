"""How learned tokens come into a vision transformer, and how it classifies with them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from typing import Any, cast

import torch
from peft import PeftConfig
from torch import nn
from transformers.backbone_utils import BackboneMixin
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.utils import can_return_tuple

from ..adapter_file import shapes_of_saved_modules
from ..class_loss import class_loss
from ..pooled_output import reading_cls
from ..prompt_model import PromptModel
from ..registration import PromptPeftType
from ..vision_tower import VISION_TOWERS, VisionModel, find_vision_tower
from .config import ViTPromptConfig
from .layer import ViTEmbeddings, ViTPrompt
from .pooling import MODEL_POOLINGS, cls


PROMPT = "prompt"
"""The name of the [`ViTPrompt`] in the tower."""


class ViTPromptModel(PromptModel):
    """Puts learned tokens into a vision transformer, and classifies images with it.

    `get_peft_model(vit, ViTPromptConfig(...))` makes it; call its methods on the `PeftModel` that this returns.

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
            num_items_in_batch: What the summed loss is divided by when the batch is part of a larger one, as in the
                Trainer; by default the batch's own size.
            adapter: The adapter that answers this call, or `"__base__"` for the model without prompts, instead of
                the active one. It changes nothing on the model.
            **kwargs: Passed on to the model, e.g. `interpolate_pos_encoding`.

        Returns:
            `loss` (cross entropy, with labels), `logits` (batch × classes), and `hidden_states` and `attentions` where
            asked for.

        Raises:
            ValueError: Labels, but neither adapter nor model has a head; a label outside the classes; an adapter
                that does not exist.
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
            logits = outputs.get("logits")
            if logits is None:
                raise ValueError(
                    f"Neither the adapter nor {type(self.model).__name__} has a head to classify with; set head and "
                    "class_names in ViTPromptConfig, or load the model's ForImageClassification class."
                )
        else:
            features, outputs = self._class_features(config, pixel_values, **kwargs)
            logits = self.prompt(features)
        loss = None if labels is None else class_loss(logits, labels, num_items_in_batch)
        return ImageClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)

    @property
    def tower(self) -> VisionModel:
        """The vision tower; a bare model is its own."""
        return self.model.get_submodule(self.tower_name)

    @property
    def prompt(self) -> ViTPrompt:
        """The learned tokens and heads of all adapters."""
        return self.model.get_submodule(f"{self.tower_name}.{PROMPT}".lstrip("."))

    def unload(self) -> nn.Module:
        """Remove the tokens and heads, and return the base model as it was."""
        self.prompt.travelling.remove()
        self.prompt.pooled_output.remove()
        delattr(self.tower, PROMPT)
        return super().unload()

    def _class_features(
        self, config: ViTPromptConfig, pixel_values: torch.Tensor, **kwargs: Any
    ) -> tuple[torch.Tensor, BaseModelOutputWithPooling]:
        """Return what the adapter's head classifies, batch × width, and the tower's outputs."""
        tower = self.tower
        # A bare model is its own tower, and its forward is the one that classifies.
        run_tower = self._base_forward if tower is self.model else tower
        pooling = MODEL_POOLINGS[tower.config.model_type].feature if config.pooling == "model" else cls
        with ExitStack() as call:
            outputs_of_tokens: list[torch.Tensor] = []
            if config.pooling == "cls_prompt":
                outputs_of_tokens = call.enter_context(self.prompt.travelling.collect_outputs())
            if pooling is cls:
                call.enter_context(reading_cls(tower, config.num_tokens if config.pooling == "cls_prompt" else 0))
            outputs = run_tower(pixel_values, **kwargs, return_dict=True)
        feature = pooling(outputs, tower.config)
        if config.pooling == "cls_prompt":
            feature = (feature + outputs_of_tokens[0].mean(dim=1)) / 2
        return feature, outputs

    _classifies = True

    @property
    def _class_names(self) -> Sequence[str] | None:
        prompt = self.prompt
        name = next(iter(prompt.active_adapters), None)
        config = None if name is None or prompt.disable_adapters else prompt.configs.get(name)
        if config is None or config.head is None:
            return None
        return config.class_names or [f"LABEL_{index}" for index in range(config.num_labels or 0)]

    def _forward_or_classify(
        self, pixel_values: torch.Tensor | None = None, *args: Any, labels: torch.Tensor | None = None, **kwargs: Any
    ) -> Any:
        # The Trainer asks the signature what the model takes.
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
            if config is None and self._class_names is None:  # the model as it is, with its own loss
                return self._base_forward(pixel_values, **({} if labels is None else {"labels": labels}), **kwargs)
            if labels is not None or (config is not None and config.head is not None):
                return self.classify(pixel_values, labels, **kwargs)
            return self._base_forward(pixel_values, **kwargs)

    def _prepare_adapter_config(self, peft_config: PeftConfig, model_config: dict) -> ViTPromptConfig:
        """Check that the tokens fit the model."""
        assert isinstance(peft_config, ViTPromptConfig)
        model_type = model_config.get("model_type")
        if model_type not in MODEL_POOLINGS:
            raise ValueError(
                f"ViTPromptConfig does not know models of type {model_type!r}; it knows "
                f"{', '.join(sorted(MODEL_POOLINGS))}. CLIP-like models take CLIPPromptConfig. To add a type, call "
                f"hf_sharp_prompt.tuners.register_vit({model_type!r}, VisionTower(...), Pooling(...))."
            )
        tower, parts = find_vision_tower(self.model)
        layers = len(list(tower.get_submodule(parts.layers).children()))
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

    def _check_file(self, config: ViTPromptConfig, tower: VisionModel) -> None:
        """Compare the tensors in the adapter's file with those that are about to be made.

        Raises:
            ValueError: They differ.
        """
        expected = shapes_of_saved_modules(self.model, config.modules_to_save)
        name = next(name for name, module in self.model.named_modules() if module is tower)
        for part, shape in config.tensor_shapes(*_sizes(config, tower)).items():
            expected["base_model.model." + f"{name}.{PROMPT}.{part}".lstrip(".")] = shape
        config.check_file(expected, type(self.model).__name__)

    def _create_and_replace(
        self,
        peft_config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        assert isinstance(peft_config, ViTPromptConfig)
        # PEFT finds the embeddings; the tower is what holds them.
        self.tower_name = current_key.rpartition(".")[0]
        tower, parts = find_vision_tower(self.model)
        if PROMPT not in dict(parent.named_children()):
            parent.add_module(PROMPT, ViTPrompt(tower, parts))
        depth, _, feature_width = _sizes(peft_config, tower)
        embeddings = cast(ViTEmbeddings, target)  # `register_vit` asks for its parts, which torch does not type
        self.prompt.update_layer(adapter_name, peft_config, embeddings, depth, feature_width)


def _describe(sizes: dict[str, Any]) -> str:
    return f"{sizes['model']} of width {sizes['width']} with {sizes['layers']} layers"


def _sizes(config: ViTPromptConfig, tower: VisionModel) -> tuple[int, int, int]:
    """Return how many layers are prompted, and the widths of the tower and of what the head sees."""
    assert config.base_model_sizes is not None
    width = config.base_model_sizes["width"]
    widths = MODEL_POOLINGS[tower.config.model_type].widths if config.pooling == "model" else 1
    return config.depth or config.base_model_sizes["layers"], width, widths * width
