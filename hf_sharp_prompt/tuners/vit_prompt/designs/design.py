"""What every design of prompts for vision transformers says of itself."""

from __future__ import annotations

from ...prompt_design import PromptDesign
from ..config import ViTPromptConfig


class ViTDesign(PromptDesign[ViTPromptConfig]):
    """A design of prompts for vision transformers. A subclass gives its name in the class statement."""

    def __init_subclass__(cls, name: str | None = None) -> None:
        if name is not None:  # Bases of several designs have no name.
            ViTPromptConfig.designs[name] = cls

    def learned(self, config: ViTPromptConfig) -> str:
        layers = config.depth or (config.base_model_sizes or {}).get("layers")
        where = "at the input" if layers == 1 else f"in each of {layers} layers" if layers else "in every layer"
        return f"{config.num_tokens} learned tokens {where}"
