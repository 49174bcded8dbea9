"""The names by which PEFT knows the methods of this project."""

import enum


class PromptPeftType(str, enum.Enum):
    """The PEFT types of this project; being `str`-valued, they look up and serialise as those of `peft.PeftType`."""

    CLIP_PROMPT = "CLIP_PROMPT"
    VIT_PROMPT = "VIT_PROMPT"
