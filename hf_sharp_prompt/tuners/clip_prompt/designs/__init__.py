"""The published designs of prompts for CLIP, one file each."""

from . import cocoop, coop, custom, ivlp, maple, vpt, vpt_shallow
from .checkpoint import Checkpoint, Place, Shapes
from .design import CLIPDesign


__all__ = ["CLIPDesign", "Checkpoint", "Place", "Shapes"]
