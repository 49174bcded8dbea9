"""A context of learned tokens in front of any text, on the small CLIP of all tests, and its features written out."""

import math
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import nn
from torch.nn.functional import layer_norm, linear
from transformers import (
    CLIPModel,
    CLIPTokenizer,
)

from hf_sharp_prompt import CLIPPromptConfig


WORDS = "a photo of a"
TEXTS = ["cat", "a blue heart, on the moon!", "", "Xylophon 7"]
NAMES = ["blue heart", "red star", "cat"]
LABELS = torch.tensor([0, 2, 1, 0])

# The historical id 2 in the config of OpenAI's checkpoints, with which the tower pools at the largest token id.
HISTORICAL_EOS_TOKEN_ID = 2


def prompted(clip: nn.Module, **config: Any) -> PeftModel:
    """With a context that is neither the words nor small, so that its place and its positions matter."""
    model = get_peft_model(clip, CLIPPromptConfig(**config))
    with torch.no_grad():
        context(model).normal_()
    return model


def context(model: nn.Module, adapter: str = "default") -> nn.Parameter:
    (found,) = [value for name, value in model.named_parameters() if name.endswith(f"clip_prompt_context.{adapter}")]
    return found


def text_features(model: nn.Module, tokenizer: CLIPTokenizer, texts: list[str] = TEXTS) -> torch.Tensor:
    return model.get_text_features(**tokenizer(texts, padding=True, return_tensors="pt")).pooler_output


def assert_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance, check_dtype=False)


def words_ids(tokenizer: CLIPTokenizer) -> list[int]:
    return tokenizer(WORDS, add_special_tokens=False)["input_ids"]


def slow_features(clip: CLIPModel, input_ids: list[int], learned: torch.Tensor) -> torch.Tensor:
    """CLIP's text tower on `[SOS] learned … [EOS]`, one text and one attention head at a time."""
    weights = {name.removeprefix("text_model."): value for name, value in clip.state_dict().items()}
    embeddings = next(value for name, value in weights.items() if name.endswith("token_embedding.weight"))[input_ids]
    states = torch.cat([embeddings[:1], learned, embeddings[1:]])
    length, width = states.shape
    positions = next(value for name, value in weights.items() if name.endswith("position_embedding.weight"))
    states = states + positions[:length]
    config = clip.config.text_config
    head = width // config.num_attention_heads

    def apply(name: str, inputs: torch.Tensor) -> torch.Tensor:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        if "norm" in name:
            return layer_norm(inputs, (width,), weight, bias, config.layer_norm_eps)
        return linear(inputs, weight, bias)

    for number in range(config.num_hidden_layers):
        layer = f"encoder.layers.{number}"
        inputs = apply(f"{layer}.layer_norm1", states)
        query, key, value = (apply(f"{layer}.self_attn.{each}_proj", inputs) for each in "qkv")
        heads = []
        for start in range(0, width, head):
            of_head = slice(start, start + head)
            rows = []
            for place in range(length):
                scores = key[: place + 1, of_head] @ query[place, of_head] / math.sqrt(head)
                rows.append(scores.softmax(0) @ value[: place + 1, of_head])
            heads.append(torch.stack(rows))
        states = states + apply(f"{layer}.self_attn.out_proj", torch.cat(heads, dim=1))
        inputs = apply(f"{layer}.mlp.fc1", apply(f"{layer}.layer_norm2", states))
        states = states + apply(f"{layer}.mlp.fc2", inputs * torch.sigmoid(1.702 * inputs))
    return apply("final_layer_norm", states)[-1] @ clip.text_projection.weight.T
