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


# Parts of the names of parameters that images do not pass.
NOT_OF_IMAGES = {"text_model", "text_projection", "logit_scale", "logit_bias"}


class ImageEncoder:
    """A model's frozen image tower as a function of pixel values: what [`~data.ImageFeatures`] are made with.

    Args:
        model: A model with `get_image_features`, such as CLIP or SigLIP, perhaps with a prompt adapter. It is put into
            evaluation mode.

    Returns:
        When called with pixel values (batch × channels × height × width): the pooled outputs of
        `get_image_features`, batch × width, on the model's device.

    Raises:
        ValueError: The active adapter learns tokens in the image tower, so that it is not frozen.
    """

    def __init__(self, model: PreTrainedModel | PeftModel) -> None:
        config = model.active_peft_config if isinstance(model, PeftModel) else None
        if isinstance(config, CLIPPromptConfig) and config.num_vision_tokens:
            raise ValueError(
                f"The adapter {model.active_adapter!r} learns tokens in the image tower (num_vision_tokens="
                f"{config.num_vision_tokens}), so an image's features change with every step and cannot be computed "
                "once; train on pixel_values."
            )
        self.model = model.eval()

    @torch.no_grad()
    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        pixel_values = pixel_values.to(self.model.device, self.model.dtype, non_blocking=True)
        return self.model.get_image_features(pixel_values=pixel_values).pooler_output

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the image tower's configuration and of all its tensors, computed when it is first read.

        It is made of the tensors and not of the checkpoint's name, so that a local, fine-tuned, cast or quantised
        model is told from the one it came from. It takes about a third of a second at ViT-B size.
        """
        model = cast(PreTrainedModel, self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model)
        config = getattr(model.config, "vision_config", model.config)
        digest = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True, default=str).encode())
        for name, tensor in sorted(model.state_dict().items()):
            if NOT_OF_IMAGES.isdisjoint(name.split(".")):
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()
