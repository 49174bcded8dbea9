"""The published designs of prompts for vision transformers, one file each."""

from . import custom, rsam_pt, vpt_deep, vpt_shallow
from .design import ViTDesign


__all__ = ["ViTDesign"]
