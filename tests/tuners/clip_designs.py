"""Every design of prompts for CLIP-like models, and on which models it has a meaning."""

from __future__ import annotations

from typing import Any

from tuners.clip_models import BUILT_ON, COMPARING, LAYERS, MODELS, reads, sees, text_inputs, tokenizer_of

from hf_sharp_prompt import CLIPPromptConfig


NAMES = ["red star", "cat", "blue heart"]
TEMPLATE = "a {}."

FIELDS: dict[str, dict[str, Any]] = {
    "end": {"num_text_tokens": 3},
    "middle": {"num_text_tokens": 3, "class_token_position": "middle"},
    "front": {"num_text_tokens": 3, "class_token_position": "front"},
    "class-specific": {"num_text_tokens": 3, "class_specific": True},
    "class-specific, middle": {"num_text_tokens": 3, "class_specific": True, "class_token_position": "middle"},
    "class-specific, deep": {"num_text_tokens": 2, "class_specific": True, "text_depth": 2},
    "deep text": {"num_text_tokens": 2, "text_depth": LAYERS},
    "conditional": {"num_text_tokens": 3, "conditional": True},
    "conditional, front": {"num_text_tokens": 3, "conditional": True, "class_token_position": "front"},
    "conditional, deep, vision": {
        "num_text_tokens": 2,
        "text_depth": 2,
        "conditional": True,
        "num_vision_tokens": 3,
        "vision_depth": LAYERS,
    },
    "vision, shallow": {"num_text_tokens": 0, "num_vision_tokens": 2},
    "vision, deep": {"num_text_tokens": 0, "num_vision_tokens": 2, "vision_depth": LAYERS},
    "independent": {"num_text_tokens": 2, "num_vision_tokens": 3, "vision_depth": 2},
    "coupled": {"num_text_tokens": 2, "num_vision_tokens": 2, "coupled": True},
}
# The published settings, with no more layers than the tiny models have.
CONSTRUCTORS: dict[str, dict[str, Any]] = {
    ".coop()": {},
    ".cocoop()": {},
    ".vpt()": {"vision_depth": LAYERS},
    ".ivlp()": {"text_depth": LAYERS, "vision_depth": LAYERS},
    ".maple()": {"text_depth": 2, "vision_depth": 2},
}
DESIGNS = [*FIELDS, *CONSTRUCTORS]


def make_config(design: str, model: str = "CLIPModel", **changes: Any) -> CLIPPromptConfig:
    """The design's config, with the words it needs read by the model's tokenizer."""
    if design in FIELDS:
        config = CLIPPromptConfig(**(_of_classes(FIELDS[design], model) | changes))
    else:
        config = getattr(CLIPPromptConfig, design.strip(".()"))(**(CONSTRUCTORS[design] | changes))
    if config.text_init:
        config.text_init_token_ids = tokenizer_of(model)(config.text_init, add_special_tokens=False).input_ids
    return config


def _of_classes(fields: dict[str, Any], model: str) -> dict[str, Any]:
    if not fields.get("class_specific"):
        return fields
    texts = [TEMPLATE.replace("{}", name) for name in NAMES]
    token_ids = [text_inputs(model, [text])["input_ids"][0].tolist() for text in texts]
    return fields | {"class_names": NAMES, "class_template": TEMPLATE, "class_token_ids": token_ids}


def has_meaning(design: str, model: str) -> bool:
    config = make_config(design)
    if config.class_specific or config.conditional:
        return model in COMPARING
    if config.coupled:
        return model in COMPARING or model in BUILT_ON
    return (reads(model) or not config.num_text_tokens) and (sees(model) or not config.num_vision_tokens)


PAIRS = [(design, model) for design in DESIGNS for model in MODELS if has_meaning(design, model)]
