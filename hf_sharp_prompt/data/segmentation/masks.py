"""Read masks: pictures whose pixels are the numbers of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import ExifTags, Image

from ..decoding import open_image


TURNED = (5, 6, 7, 8)
"""EXIF orientations that swap height and width."""


def read_mask(mask: Any, which: str = "without a path") -> np.ndarray:
    """Read a mask as it is stored; nothing is turned, scaled or converted.

    Args:
        mask: A PIL image, a path, an encoded file as bytes or as `datasets` stores one, or an array of whole numbers,
            height × width. Pictures with a palette, as VOC's, give the places in the palette; pictures of 1, 8, 16 and
            32 bits give their values. Pictures in colours are taken where red, green and blue are equal.
        which: What to call the mask in an error, if it has no path.

    Returns:
        The pixel values, height × width, 64-bit integers.

    Raises:
        ValueError: It cannot be read, has no pixels, is in colours or of floats, or is a JPEG, whose compression
            changes class numbers.
    """
    name, opened = open_image(mask, which)
    name = f"The mask {name}"
    if isinstance(opened, Image.Image) and opened.format == "JPEG":
        raise ValueError(f"{name} is a JPEG, whose compression changes the numbers of classes; save masks as PNG.")
    values = np.asarray(opened)
    if values.ndim == 3 and values.shape[-1] in (1, 2, 3, 4):
        values = _without_colours(values, name)
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise ValueError(
            f"{name} has pixels of {values.dtype} and the shape {values.shape}; a mask is height × width whole "
            "numbers, the class of each pixel."
        )
    if values.size == 0:
        raise ValueError(f"{name} has no pixels ({values.shape[1]} × {values.shape[0]}); remove it.")
    values = values.astype(np.int64)
    if values.min() < 0:
        raise ValueError(f"{name} has the pixel value {values.min()}; classes are numbered from 0.")
    return values


def _without_colours(values: np.ndarray, name: str) -> np.ndarray:
    colours = values[:, :, : 3 if values.shape[-1] >= 3 else 1]
    if (colours != colours[:, :, :1]).any():
        raise ValueError(
            f"{name} is a picture in colours, whose classes are not known; save it as a picture of one channel or "
            "with a palette, in which each pixel is the number of its class."
        )
    return colours[:, :, 0]


def size_of_image(image: Any) -> tuple[int, int]:
    """Return the height and width of an image when it is upright; a file is not decoded.

    Raises:
        ValueError: The image cannot be read.
    """
    path = image.get("path") if isinstance(image, dict) else None
    if path is not None and image.get("bytes") is None:
        try:
            with Image.open(path) as opened:
                return _upright_size(opened)
        except (OSError, ValueError):
            pass  # `open_image` says what is wrong
    _, opened = open_image(image, "without a path")
    return opened.shape[:2] if isinstance(opened, np.ndarray) else _upright_size(opened)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    turned = image.getexif().get(ExifTags.Base.Orientation) in TURNED
    return (width, height) if turned else (height, width)


def check_sizes(mask: tuple[int, ...], image: tuple[int, ...], which: str) -> None:
    """Check that a mask has the size of its image.

    Args:
        mask: The mask's height and width.
        image: The image's height and width, upright.
        which: What to call them in the error.

    Raises:
        ValueError: They differ.
    """
    if tuple(mask) != tuple(image):
        raise ValueError(
            f"The mask of {which} is {mask[1]} × {mask[0]} pixels and the image {image[1]} × {image[0]} (width × "
            "height); a mask must have its image's size. Export both at one size, or leave the pair out."
        )
