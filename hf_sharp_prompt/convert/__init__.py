"""Prompts from the checkpoints of CoOp's repository, and of those that grew from it, to adapters and back.

Known are CoOp, CoCoOp, KgCoOp, ProGrad, MaPLe, and VPT and independent prompts (IVLP) as MaPLe's authors run them.
From the command line: `python -m hf_sharp_prompt.convert IN OUT --base MODEL`.
"""

from .conversion import adapter_from_checkpoint, checkpoint_from_adapter


__all__ = ["adapter_from_checkpoint", "checkpoint_from_adapter"]
