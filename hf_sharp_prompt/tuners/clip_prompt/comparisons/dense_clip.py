"""Dense CLIP: the patches of an image are compared with class texts, as MaskCLIP does."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize

from ...pixel_loss import MULTI_CLASS
from .comparison import is_a
from .pixels import Pixels


class DenseCLIP(Pixels):
    """A `CLIPModel` whose patches are compared with class texts, without any other parameter.

    In the last layer a patch does not attend to others: its value alone, projected as the attention's output is, takes
    the attention's place, then the layer goes on as usual (residual, MLP). What comes out passes the final norm and
    the visual projection, and is compared with the classes:
    `logits = exp(logit_scale) · cos(patch feature, class feature)`, images × classes × rows × columns of patches. The
    loss is the cross entropy of their softmax over the pixels. Every pixel is of the class that is nearest: there is
    no background.

    The parameters are those of a CLIP that classifies images, so an adapter that was trained for one task may be used
    for the other. Images may have any size that patches fill; position embeddings are interpolated.

    Vision prompts act through the layers before the last, in which the patches attend to them.

    Reference:
        Zhou et al., "Extract Free Dense Labels from CLIP" (MaskCLIP), ECCV 2022, https://arxiv.org/abs/2112.01071;
        the residual and the MLP are as in the authors' code.
    """

    heads = ("visual_projection",)
    pixel_losses = (MULTI_CLASS,)
    knows_background = False

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        return is_a(model, "CLIPModel", "MetaClip2Model")

    def encode_images(self, **inputs: Any) -> torch.Tensor:
        """Return the features of patches, images × rows × columns × width, not normalised."""
        inputs = {"interpolate_pos_encoding": True, **inputs}
        outputs = self.model.get_image_features(**inputs, output_hidden_states=True)
        tower = self.model.vision_model
        before_last, layer = outputs.hidden_states[-2], tower.encoder.layers[-1]
        attention = layer.self_attn
        states = before_last + attention.out_proj(attention.v_proj(layer.layer_norm1(before_last)))
        states = states + layer.mlp(layer.layer_norm2(states))
        features = self.model.visual_projection(tower.post_layernorm(states[:, 1:]))
        height, width = inputs["pixel_values"].shape[-2:]
        size = tower.config.patch_size
        return features.unflatten(1, (height // size, width // size))

    def predict(self, image_features: torch.Tensor, class_features: torch.Tensor) -> dict[str, torch.Tensor]:
        cosines = normalize(image_features, dim=-1).to(class_features) @ class_features.T
        return {"logits": self.model.logit_scale.exp() * cosines.permute(0, 3, 1, 2)}
