"""An app that compares hand-written and learned prompts on images, and a Space of the Hub that shows it."""

from .folder import open_space


__all__ = ["open_space"]
