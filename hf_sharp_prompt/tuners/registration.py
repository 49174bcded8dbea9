"""The names by which PEFT knows the methods of this project."""

import enum


class PromptPeftType(str, enum.Enum):
    """The PEFT types of this project, str-valued like [`peft.PeftType`] so that they look up and serialise alike."""

    CLIP_PROMPT = "CLIP_PROMPT"
    VIT_PROMPT = "VIT_PROMPT"
