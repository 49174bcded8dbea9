"""Many runs at once: seeds and methods whose prompts differ, and whose model and texts are the same."""

from .training import train_together, why_alone


__all__ = ["train_together", "why_alone"]
