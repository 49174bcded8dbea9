"""Decode images of any form and mode to 8 bits of red, green and blue, or refuse them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from datasets.utils.file_utils import is_local_path
from PIL import ExifTags, Image, ImageOps, JpegImagePlugin, UnidentifiedImageError


_CHANNELS = (1, 2, 3, 4)

JPEG_START = b"\xff\xd8\xff"
"""The first bytes of every JPEG."""


def decode(image: Any, which: str = "without a path") -> Image.Image:
    """Read an image as transformers' pipelines do, so that training and use see the same pixels.

    Photos are turned upright by their EXIF orientation. Transparency is dropped without a background: the colours
    below it count. The first of several frames is taken. Pixels of 16 bits keep their upper 8. Floats lie between 0
    and 1, as torchvision takes them. CoOp's code differs in one point: it does not turn photos.

    A file of more pixels than Pillow opens (`2 * PIL.Image.MAX_IMAGE_PIXELS`, 179 million) is refused, since a small
    file can hold a picture that fills the memory; a JPEG is read at a half, a quarter or an eighth of its size.

    Args:
        image: A PIL image of any mode; a path; an encoded file, as bytes or as `datasets` stores one; an array or
            tensor, height × width, or with 1 to 4 channels, first or last, of bool, uint8, uint16 or floats.
        which: What to call the image in an error, if it has no path.

    Returns:
        The image in mode RGB, with its pixels in memory.

    Raises:
        ValueError: The image cannot be read, or the values of its black and white are not known.
    """
    name, image = open_image(image, which)
    if isinstance(image, np.ndarray):
        image = _from_array(image, name)
    if 0 in image.size:
        raise ValueError(f"The image {name} has no pixels ({image.width} × {image.height}); remove it.")
    if image.getexif().get(ExifTags.Base.Orientation) is not None:  # exif_transpose copies every image
        image = ImageOps.exif_transpose(image)
    return _to_rgb(image, name)


def open_image(image: Any, which: str) -> tuple[str, Any]:
    """Return what to call an image, and a PIL image or array with its pixels in memory."""
    name = f"({which})"
    if isinstance(image, str | os.PathLike):
        image = {"path": str(Path(image).expanduser()), "bytes": None}
    elif isinstance(image, bytes | bytearray):
        image = {"path": None, "bytes": bytes(image)}
    if isinstance(image, dict) and image.keys() == {"bytes", "path"}:
        name = image["path"] or "(given as bytes)"
        if image == {"bytes": None, "path": None}:
            raise ValueError(f"The image {name} cannot be decoded (it has neither bytes nor a path); remove its row.")
        return name, _load(partial(_read, image), name)
    if isinstance(image, Image.Image):
        name = str(getattr(image, "filename", None) or name)
        return name, _load(lambda: image, name)
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        return name, (image.float() if image.is_floating_point() else image).numpy()
    if isinstance(image, np.ndarray):
        return name, image
    if image is None:
        raise ValueError(f"The image {name} is missing (None); remove its row, for instance with dataset.filter().")
    raise ValueError(
        f"The image {name} is of type {type(image).__name__}; give a PIL image, a path, the bytes of a file, or an "
        'array, which for columns of numbers dataset.with_format("numpy") gives.'
    )


def _read(file: dict[str, Any]) -> Image.Image:
    if file["bytes"] is None and not is_local_path(file["path"]):  # in an archive, or on the Hub
        return datasets.Image().decode_example(file)
    # From a path, Pillow maps TIFF files into memory and forgets their orientation.
    content = Path(file["path"]).read_bytes() if file["bytes"] is None else file["bytes"]
    if not content:
        raise ValueError("it is empty")
    try:
        return Image.open(io.BytesIO(content))
    except Image.DecompressionBombError:
        if not content.startswith(JPEG_START):
            raise
        return _open_huge_jpeg(content)


def _open_huge_jpeg(content: bytes) -> Image.Image:
    """Open a JPEG at the largest fraction of its size that Pillow opens without a warning.

    JPEGs have at most 65,535 pixels a side, so that an eighth is never too large.
    """
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(content))  # `Image.open` would look at the full size
    width, height = image.size
    for divisor in (2, 4, 8):
        if width * height <= (Image.MAX_IMAGE_PIXELS or 0) * divisor**2:
            break
    image.draft(None, (width // divisor, height // divisor))
    return image


def _load(read: Callable[[], Image.Image], name: str) -> Image.Image:
    try:
        image = read()
        image.load()
    except Image.DecompressionBombError as error:
        raise ValueError(f"The image {name} has too many pixels ({error}); make it smaller or remove it.") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"The image {name} cannot be decoded (it is no image); repair or remove it.") from error
    except Exception as error:
        raise ValueError(f"The image {name} cannot be decoded ({error}); repair or remove it.") from error
    return image


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    if array.ndim == 3:
        first, last = array.shape[0] in _CHANNELS, array.shape[-1] in _CHANNELS
        if first == last:
            raise ValueError(
                f"The image {name} is an array of shape {array.shape}; either its first or its last dimension must be "
                "1 to 4 channels, and not both."
            )
        array = np.moveaxis(array, 0, -1) if first else array
        array = array[:, :, 0] if array.shape[-1] == 1 else array
    elif array.ndim != 2:
        raise ValueError(f"The image {name} is an array of shape {array.shape}; give height × width × channels.")
    return Image.fromarray(np.ascontiguousarray(_to_bytes(array, name)))


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    pixels = None
    if image.mode == "I" and image.format in ("PNG", "PPM"):  # Pillow reads some files of 16 bits so
        pixels = np.asarray(image).clip(0, 2**16 - 1).astype(np.uint16)
    elif image.mode in ("I", "F") or image.mode.startswith("I;16"):
        pixels = np.asarray(image)
    if pixels is not None:
        image = Image.fromarray(_to_bytes(pixels, name))
    elif image.mode in ("La", "RGBa"):  # here colours are multiplied by their opacity
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    return image.convert("RGB")


def _to_bytes(array: np.ndarray, name: str) -> np.ndarray:
    """Scale pixels to 0 … 255; the shape stays."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        return (array >> 8).astype(np.uint8)
    if array.dtype.kind != "f":
        raise ValueError(
            f"The image {name} has pixels of {array.dtype}, whose white is not known; save it with 8 or 16 bits, or "
            "convert it to uint8 (white is 255) or uint16 (white is 65535)."
        )
    if array.size and not (array.min() >= 0 and array.max() <= 1):  # true for NaN, too
        raise ValueError(
            f"The image {name} has float pixels from {array.min():g} to {array.max():g}; scale them to lie between 0 "
            "and 1."
        )
    return (array.astype(np.float64) * 255).round().astype(np.uint8)
