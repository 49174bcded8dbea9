"""What every design of prompts for CLIP says of itself."""

from __future__ import annotations

from typing import ClassVar

from ...prompt_design import PromptDesign
from ..config import CLIPPromptConfig
from .checkpoint import Checkpoint


class CLIPDesign(PromptDesign[CLIPPromptConfig]):
    """A design of prompts for CLIP-like models. A subclass gives its name in the class statement.

    Attributes:
        words: The words of the published text before a class name, of which the design learns the first as context
            tokens; empty if the name alone stands beside the context.
        checkpoint: How released files hold what it learns; None if no repository releases any.
    """

    words: ClassVar[str] = ""
    checkpoint: ClassVar[Checkpoint | None] = None

    def __init_subclass__(cls, name: str | None = None) -> None:
        if name is not None:  # Bases of several designs have no name.
            CLIPPromptConfig.designs[name] = cls

    def class_template(self, num_text_tokens: int) -> str:
        """The published text around a class name, after the context tokens; `{}` is the name.

        Args:
            num_text_tokens: The number of context tokens.
        """
        return " ".join([*self.words.split()[num_text_tokens:], "{}."])

    def learned(self, config: CLIPPromptConfig) -> str:
        parts = []
        if config.num_text_tokens:
            of_classes = " for each class" if config.class_specific else ""
            of_images = ", shifted by what a meta-net makes of the image" if config.conditional else ""
            layers = _in_layers(config.text_depth)
            parts.append(f"{config.num_text_tokens} context tokens{of_classes}{layers}{of_images}")
        if config.num_vision_tokens:
            projected = ", projected from them" if config.coupled else ""
            parts.append(f"{config.num_vision_tokens} vision tokens{_in_layers(config.vision_depth)}{projected}")
        return " and ".join(parts)


def _in_layers(depth: int) -> str:
    return f" in each of the first {depth} layers" if depth > 1 else ""
