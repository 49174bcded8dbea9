"""CLIPSeg: a decoder that is conditioned on a class text finds the pixels of the class."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isqrt
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .comparison import is_a
from .pixels import Pixels


BYTES = 2**30
"""How many bytes of the decoder's activations are held at a time; the backward pass computes those of more again."""


class CLIPSeg(Pixels):
    """A `CLIPSegForImageSegmentation`: its decoder runs once for each image and class.

    Logits are those of the model's own `forward` for the same texts, but all classes are compared with each image, and
    with gradients, which `forward` does not have. They are images × classes × height × width of `pixel_values`. The
    default loss is multi-class, as what is asked of a pixel is which class it shows; with the binary one, which
    CLIPSeg was trained with, most pixels are negative for most classes, and prompts learn to find less.

    Features of images are the tapped hidden states of the vision tower, each reduced by the decoder's own linear
    layer: images × taps × (1 + patches) × reduce_dim. No text changes them. With CLIPSeg's published sizes they take
    0.37 MB for an image of 352 × 352 pixels, a twelfth of the hidden states.
    """

    heads = ("decoder",)
    fewest_classes = 1
    normalizes_classes = False
    own_inputs = ("input_ids", "conditional_pixel_values", "conditional_embeddings")

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        return is_a(model, "CLIPSegForImageSegmentation")

    @property
    def encoders_name(self) -> str:
        return "clip"

    def encode_images(self, **inputs: Any) -> torch.Tensor:
        outputs = self.encoders.get_image_features(**inputs, output_hidden_states=True)
        # The first hidden states are those of the embeddings; the decoder reads the last tap first.
        taps = [outputs.hidden_states[layer + 1] for layer in reversed(self.model.extract_layers)]
        return torch.stack([reduce(tap) for reduce, tap in zip(self.model.decoder.reduces, taps)], dim=1)

    def predict(self, image_features: torch.Tensor, class_features: torch.Tensor) -> dict[str, torch.Tensor]:
        image_features = image_features.to(class_features.dtype)
        at_a_time = max(1, BYTES // (len(image_features) * self._bytes_of_pair(image_features)))
        chunks = class_features.split(at_a_time)
        decode = partial(self._decode, image_features)
        if len(chunks) > 1 and torch.is_grad_enabled():
            decode = partial(checkpoint, decode, use_reentrant=False)
        return {"logits": torch.cat([decode(chunk) for chunk in chunks], dim=1)}

    def _decode(self, image_features: torch.Tensor, class_features: torch.Tensor) -> torch.Tensor:
        """Return images × classes × height × width, as `CLIPSegDecoder.forward` computes it of one pair at a time."""
        decoder = self.model.decoder
        images, _, tokens, _ = image_features.shape
        classes = len(class_features)
        states: torch.Tensor | None = None
        for index, layer in enumerate(decoder.layers):
            tap = image_features[:, index].repeat_interleave(classes, dim=0)
            states = tap if states is None else tap + states
            if index == decoder.conditional_layer:
                scale, shift = (
                    film(class_features).repeat(images, 1) for film in (decoder.film_mul, decoder.film_add)
                )
                states = scale.unsqueeze(1) * states + shift.unsqueeze(1)
            states = layer(states, attention_mask=None)
        assert states is not None  # there is a layer
        side = _side_of(tokens - 1)
        maps = states[:, 1:].transpose(1, 2).unflatten(2, (side, side))
        return decoder.transposed_convolution(maps).squeeze(1).unflatten(0, (images, classes))

    def _bytes_of_pair(self, image_features: torch.Tensor) -> int:
        """Estimate what the decoder keeps of an image and a class for the backward pass."""
        _, taps, tokens, width = image_features.shape
        config = self.model.config
        floats = taps * tokens * (12 * width + 2 * config.decoder_intermediate_size)
        pixels = (tokens - 1) * config.vision_config.patch_size**2
        return (floats + 4 * pixels) * image_features.element_size()

    def answer(self, forward: Callable[..., Any], inputs: dict[str, Any]) -> Any:
        """Answer as the model's own `forward`, with gradients to the texts' prompts, which it does not have."""
        number, labels = inputs.pop("num_items_in_batch", None), inputs.get("labels")
        if inputs.get("input_ids") is not None and torch.is_grad_enabled():
            texts = {
                name: inputs.pop(name) for name in ("input_ids", "attention_mask", "position_ids") if name in inputs
            }
            inputs["conditional_embeddings"] = self.encoders.get_text_features(**texts).pooler_output
        outputs = forward(**inputs)
        if number is not None and labels is not None:  # `forward` takes the mean
            outputs.loss = outputs.loss * (labels.numel() / number)
        return outputs


def _side_of(patches: int) -> int:
    side = isqrt(patches)
    if side * side != patches:
        raise ValueError(
            f"CLIPSeg's decoder takes square images, but there are {patches} patches; scale images to equal height "
            "and width."
        )
    return side
