"""What is exported at all."""

from __future__ import annotations

from peft import PeftModel

from ..tuners import CLIPPromptConfig, ViTPromptConfig


def check_classifies(model: PeftModel) -> None:
    """Check that a model's active adapter is a prompt that classifies images.

    Raises:
        ValueError: It is another adapter, or was trained for another task.
    """
    config = model.active_peft_config
    if not isinstance(config, CLIPPromptConfig | ViTPromptConfig):
        raise ValueError(
            f"The active adapter is of type {getattr(config.peft_type, 'value', config.peft_type)}, not a prompt; "
            "switch to one with set_adapter."
        )
    if isinstance(config, CLIPPromptConfig) and config.task not in (None, "image-classification"):
        raise ValueError(
            f"The adapter is for {config.task}, and only classifiers of images are exported; use it through PEFT."
        )
