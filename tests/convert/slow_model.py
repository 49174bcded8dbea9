"""The models of the repositories that checkpoints come from, written out."""

from collections.abc import Callable

import torch
from convert.checkpoints import LAYERS, NAMES, TEXT, StateDict
from torch.nn.functional import conv2d, layer_norm, linear, normalize
from transformers import CLIPModel, CLIPTokenizer


class SlowModel:
    """`CustomCLIP.forward` of these repositories, from the weights of a CLIP and what was learned, step by step."""

    def __init__(self, learned: StateDict, base: str, tokenizer: CLIPTokenizer, position: str = "end") -> None:
        self.learned = {name.removeprefix("prompt_learner."): tensor.double() for name, tensor in learned.items()}
        self.tokenizer, self.position = tokenizer, position
        self.weights = {name: tensor.double() for name, tensor in CLIPModel.from_pretrained(base).state_dict().items()}

    def weight(self, ending: str) -> torch.Tensor:
        (found,) = [tensor for name, tensor in self.weights.items() if name.endswith(ending)]
        return found

    def logits(self, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        return self.weights["logit_scale"].exp() * normalize(images, dim=-1) @ normalize(texts, dim=-1).T

    def encode_classes(self, context: torch.Tensor | None = None) -> torch.Tensor:
        context = self.learned.get("ctx", torch.zeros(0, TEXT)).double() if context is None else context
        n = context.shape[-2]
        words = "a photo of a" if n <= 4 else " ".join(["X"] * n)
        features = []
        for index, name in enumerate(NAMES):
            name = name.replace("_", " ")
            name_length = len(self.tokenizer(name)["input_ids"]) - 2
            ids = self.tokenizer(f"{words} {name}.")["input_ids"]
            embedded = self.weight("token_embedding.weight")[ids]
            start, behind = embedded[:1], embedded[1 + n :]
            own = context[index] if context.dim() == 3 else context
            parts = {
                "end": [own, behind],
                "middle": [own[: n // 2], behind[:name_length], own[n // 2 :], behind[name_length:]],
                "front": [behind[:name_length], own, behind[name_length:]],
            }
            x = (
                torch.cat([start, *parts[self.position]])
                + self.weight("text_model.embeddings.position_embedding.weight")[: len(ids)]
            )

            def deeper(layer: int, x: torch.Tensor, n: int = n) -> torch.Tensor:
                names = f"compound_prompts_text.{layer - 1}", f"text_encoder.transformer.resblocks.{layer}.VPT_shallow"
                for each in names:
                    if each in self.learned:
                        return torch.cat([x[:1], self.learned[each], x[1 + n :]])
                return x

            x = self.layers("text_model", x, deeper, causal=True)
            x = self.norm("text_model.final_layer_norm", x)
            features.append(x[-1] @ self.weights["text_projection.weight"].T)
        return torch.stack(features)

    def vision_tokens(self) -> list[torch.Tensor]:
        learned = self.learned
        if "image_encoder.VPT" in learned:
            deeper = [f"image_encoder.transformer.resblocks.{layer}.VPT_shallow" for layer in range(1, LAYERS)]
            return [learned[name] for name in ["image_encoder.VPT", *deeper] if name in learned]
        if "proj.weight" not in learned:
            return []
        tokens = [linear(learned["ctx"], learned["proj.weight"], learned["proj.bias"])]
        while (name := f"compound_prompts_text.{len(tokens) - 1}") in learned:
            projection = f"compound_prompt_projections.{len(tokens) - 1}"
            tokens.append(linear(learned[name], learned[f"{projection}.weight"], learned[f"{projection}.bias"]))
        return tokens

    def encode_images(self, pixel_values: torch.Tensor) -> torch.Tensor:
        tokens, features = self.vision_tokens(), []
        for image in pixel_values:
            patches = conv2d(image[None], self.weight("patch_embedding.weight"), stride=16)[0].flatten(1).T
            x = torch.cat([self.weight("class_embedding")[None], patches])
            x = x + self.weight("vision_model.embeddings.position_embedding.weight")
            x = torch.cat([x, *tokens[:1]])

            def deeper(layer: int, x: torch.Tensor) -> torch.Tensor:
                if 0 < layer < len(tokens):
                    return torch.cat([x[: -len(tokens[0])], tokens[layer]])
                return x

            x = self.norm("vision_model.pre_layrnorm", x)
            x = self.layers("vision_model", x, deeper, causal=False)
            x = self.norm("vision_model.post_layernorm", x[:1])
            features.append(x[0] @ self.weights["visual_projection.weight"].T)
        return torch.stack(features)

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return layer_norm(x, x.shape[-1:], self.weight(f"{name}.weight"), self.weight(f"{name}.bias"))

    def apply(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"))

    def layers(
        self, tower: str, x: torch.Tensor, deeper: Callable[[int, torch.Tensor], torch.Tensor], causal: bool
    ) -> torch.Tensor:
        """Length × width through the tower's layers, with 4 heads."""
        for layer in range(LAYERS):
            name = f"{tower}.encoder.layers.{layer}"
            x = deeper(layer, x)
            y = self.norm(f"{name}.layer_norm1", x)
            query, key, value = (
                self.apply(f"{name}.self_attn.{each}_proj", y).unflatten(-1, (4, -1)).transpose(0, 1) for each in "qkv"
            )
            scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5
            if causal:
                scores = scores.masked_fill(torch.ones(len(x), len(x)).triu(1).bool(), float("-inf"))
            y = (scores.softmax(-1) @ value).transpose(0, 1).flatten(1)
            x = x + self.apply(f"{name}.self_attn.out_proj", y)
            y = self.apply(f"{name}.mlp.fc1", self.norm(f"{name}.layer_norm2", x))
            x = x + self.apply(f"{name}.mlp.fc2", y * torch.sigmoid(1.702 * y))
        return x
