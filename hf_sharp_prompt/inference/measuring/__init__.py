"""What a trained adapter reaches on a data set: one file for each kind of labels."""

from __future__ import annotations

from collections.abc import Mapping

from .images import Images
from .measurement import Measurement
from .objects import Objects
from .pixels import Pixels


MEASUREMENTS: Mapping[str, type[Measurement]] = {
    "image-classification": Images,
    "object-detection": Objects,
    "image-segmentation": Pixels,
}
"""By the task of an adapter."""
