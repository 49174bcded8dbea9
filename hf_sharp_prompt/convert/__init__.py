"""Prompts from the checkpoints of CoOp's repository, and of those that grew from it, to adapters and back.

Known are CoOp, CoCoOp, KgCoOp, ProGrad, MaPLe, and VPT and independent prompts (IVLP) as MaPLe's authors run them.
From the command line: `sharp-prompt convert IN OUT --base MODEL`, or `python -m hf_sharp_prompt.convert`.
"""

from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .conversion import adapter_from_checkpoint, checkpoint_from_adapter


def __getattr__(name: str) -> Any:
    """Import a function when it is first asked for: the command's `--help` does without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import conversion

    return getattr(conversion, name)


__all__ = ["adapter_from_checkpoint", "checkpoint_from_adapter"]
