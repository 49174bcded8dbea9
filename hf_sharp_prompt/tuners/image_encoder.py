"""The frozen image tower of a model, as a function."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import cast

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from .clip_prompt import CLIPPromptConfig
from .clip_prompt.comparisons import find_comparison
from .sharding import whole_tensor


# What images do not pass of the part that encodes them and texts.
NOT_OF_IMAGES = ("text_model", "text_projection", "logit_scale", "logit_bias")


class ImageEncoder:
    """A model's frozen image tower as a function of pixel values: what [`~data.ImageFeatures`] are made with.

    Args:
        model: A model that is compared with class texts, such as CLIP, SigLIP or OWL-ViT, perhaps with a prompt
            adapter. It is put into evaluation mode.
        task: The task, for a model that has several; by default that of the active adapter, or the model's first.

    Returns:
        When called with pixel values (batch × channels × height × width): what `classify` takes as `image_features`,
        batch × …, on the model's device. Of a CLIP these are the pooled outputs of `get_image_features`, batch ×
        width.

    Raises:
        ValueError: The model is not compared with texts, or the active adapter learns tokens in the image tower, so
            that it is not frozen.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, task: str | None = None) -> None:
        config = model.active_peft_config if isinstance(model, PeftModel) else None
        if isinstance(config, CLIPPromptConfig) and config.num_vision_tokens:
            raise ValueError(
                f"The adapter {model.active_adapter!r} learns tokens in the image tower (num_vision_tokens="
                f"{config.num_vision_tokens}), so an image's features change with every step and cannot be computed "
                "once; train on pixel_values."
            )
        self.model = model.eval()
        base = self.base_model
        comparison = find_comparison(base, config.task if isinstance(config, CLIPPromptConfig) else task)
        if comparison is None:
            raise ValueError(
                f"{type(base).__name__} is not compared with class texts and has no image features; use a CLIPModel."
            )
        self.comparison = comparison

    @property
    def base_model(self) -> PreTrainedModel:
        """The model without its adapter."""
        return cast(PreTrainedModel, self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model)

    @torch.no_grad()
    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        pixel_values = pixel_values.to(self.model.device, self.model.dtype, non_blocking=True)
        return self.comparison.encode_images(pixel_values=pixel_values)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the image tower's configuration and of all its tensors, computed when it is first read.

        It is made of the tensors and not of the checkpoint's name, so that a local, fine-tuned, cast or quantised
        model is told from the one it came from. It takes about a third of a second at ViT-B size. Where the model's
        layers are sharded over processes, all of them must read it.
        """
        model, comparison = self.base_model, self.comparison
        config = getattr(model.config, "vision_config", model.config)
        digest = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True, default=str).encode())
        if not comparison.labels_images:
            digest.update(comparison.task.encode())  # A CLIP's features of patches are not those of its images.
        texts = tuple(f"{comparison.encoders_name}.{part}".lstrip(".") for part in NOT_OF_IMAGES)
        for name, tensor in sorted(model.state_dict().items()):
            if not name.startswith(texts):
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                values = whole_tensor(tensor).detach().cpu().contiguous()
                digest.update(values.flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()
