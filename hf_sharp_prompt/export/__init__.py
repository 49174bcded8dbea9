"""Trained adapters for those who do not run PEFT: zero-shot heads, open_clip's weights, ONNX graphs and a plain CLIP.

From the command line: `sharp-prompt export ADAPTER FOLDER --format onnx`.
"""

from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .onnx_graphs import write_onnx_classifier, write_onnx_towers
    from .zero_shot_head import ZeroShotHead


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: the command's `--help` does without torch."""
    if name == "ZeroShotHead":
        from .zero_shot_head import ZeroShotHead

        return ZeroShotHead
    if name in __all__:
        from . import onnx_graphs

        return getattr(onnx_graphs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["ZeroShotHead", "write_onnx_classifier", "write_onnx_towers"]
