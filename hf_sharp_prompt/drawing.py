"""Boxes and classes of pixels, drawn on images."""

from __future__ import annotations

import colorsys
from collections.abc import Collection, Mapping, Sequence
from math import ceil

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .printable import printable


Colour = tuple[int, int, int]
Box = Sequence[float]

SMALLEST = 320
"""The pixels of a drawn picture's longer side, at least; smaller images are enlarged, so that text can be read."""

GOLDEN = 0.61803398875
"""A step of the hue after which colours that follow each other differ, however many there are."""


def colours_of(count: int) -> list[Colour]:
    """Return a colour for each of `count` classes, the same ones every time."""
    colours = []
    for index in range(count):
        red, green, blue = colorsys.hsv_to_rgb(index * GOLDEN % 1, 0.85 if index % 2 else 0.65, 0.95)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colours


def draw_boxes(image: Image.Image, boxes: Sequence[tuple[Box, str, Colour]]) -> Image.Image:
    """Draw boxes with a text at each, the last one on top.

    Args:
        image: The image.
        boxes: For each its left, top, right and bottom in pixels, what may reach beyond the image; its text; and its
            colour.

    Returns:
        The picture, enlarged by a whole number if the image is small.
    """
    picture, scale = _enlarged(image.convert("RGB"))
    draw, font = ImageDraw.Draw(picture), _font(picture)
    width = max(2, round(max(picture.size) / 250))
    for box, text, colour in boxes:
        left, top, right, bottom = (
            min(max(scale * value, 0), side - 1)
            for value, side in zip(box, (*picture.size, *picture.size), strict=True)
        )
        if right > left and bottom > top:
            draw.rectangle((left, top, right, bottom), outline=colour, width=width)
            _write_on_box(draw, (left, top), text, colour, font)
    return picture


def draw_masks(
    image: Image.Image,
    values: np.ndarray,
    names: Sequence[str],
    colours: Sequence[Colour],
    unseen: Collection[int] = (),
) -> Image.Image:
    """Lay a colour over the pixels of each class, and name the classes that there are beside the image.

    Args:
        image: The image.
        values: The number of each pixel's class, height × width; negative ones stay as they are.
        names: The names of the classes.
        colours: Their colours.
        unseen: Classes whose pixels stay as they are.

    Returns:
        The picture, enlarged by a whole number if the image is small.
    """
    pixels = np.asarray(image.convert("RGB"))
    shown = [value for value in np.unique(values).tolist() if value >= 0 and value not in unseen]
    table = np.zeros((len(names) + 1, 3), dtype=np.uint8)
    table[: len(names)] = colours
    is_shown = np.isin(values, shown)[..., None]
    mixed = np.where(is_shown, pixels // 2 + table[np.clip(values, -1, None)] // 2, pixels).astype(np.uint8)
    picture, _ = _enlarged(Image.fromarray(mixed))
    return with_legend(picture, {names[value]: colours[value] for value in shown})


def with_legend(picture: Image.Image, colours: Mapping[str, Colour]) -> Image.Image:
    """Put names and their colours to the right of a picture; without names it stays as it is."""
    if not colours:
        return picture
    font = _font(picture)
    line = round(1.5 * font.size)
    names = {printable(name): colour for name, colour in colours.items()}
    room = line + ceil(max(font.getlength(name) for name in names) + font.size)
    height = max(picture.height, line * len(names) + line // 2)
    wide = Image.new("RGB", (picture.width + room, height), "white")
    wide.paste(picture, (0, 0))
    draw = ImageDraw.Draw(wide)
    for row, (name, colour) in enumerate(names.items()):
        left, top = picture.width + font.size // 2, line // 4 + row * line
        draw.rectangle((left, top, left + font.size, top + font.size), fill=colour, outline="grey")
        draw.text((left + line, top), name, fill="black", font=font)
    return wide


def beside(columns: Mapping[str, Sequence[Image.Image]]) -> Image.Image:
    """Put pictures into a grid: a row for each image, and a column with a heading for each way to see it.

    Args:
        columns: Heading → a picture of each image.
    """
    font = _font(next(iter(columns.values()))[0])
    gap, line = 8, round(1.6 * font.size)
    widths = [max(picture.width for picture in pictures) for pictures in columns.values()]
    heights = [max(row.height for row in rows) for rows in zip(*columns.values(), strict=True)]
    size = sum(widths) + gap * (len(widths) - 1), line + sum(heights) + gap * (len(heights) - 1)
    grid = Image.new("RGB", size, "white")
    draw, left = ImageDraw.Draw(grid), 0
    for (heading, pictures), width in zip(columns.items(), widths, strict=True):
        draw.text((left, 0), printable(heading), fill="black", font=font)
        top = line
        for picture, height in zip(pictures, heights, strict=True):
            grid.paste(picture, (left, top))
            top += height + gap
        left += width + gap
    return grid


def label_map(values: np.ndarray, colours: Sequence[Colour]) -> Image.Image:
    """Make a picture whose pixel values are the numbers of classes.

    Args:
        values: height × width, from 0.
        colours: The classes' colours.

    Returns:
        A picture with a palette; of more than 256 classes one of 16 bits.
    """
    if len(colours) > 256:
        return Image.fromarray(values.astype(np.uint16))
    picture = Image.fromarray(values.astype(np.uint8), mode="P")
    picture.putpalette([value for colour in colours for value in colour])
    return picture


def _enlarged(image: Image.Image) -> tuple[Image.Image, int]:
    scale = max(1, ceil(SMALLEST / max(image.size)))
    size = image.width * scale, image.height * scale
    return image.resize(size, Image.Resampling.NEAREST) if scale > 1 else image.copy(), scale


def _font(picture: Image.Image) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=max(12, round(max(picture.size) / 40)))
    assert isinstance(font, ImageFont.FreeTypeFont)  # It is where a size is asked for.
    return font


def _write_on_box(
    draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, colour: Colour, font: ImageFont.FreeTypeFont
) -> None:
    """Write on the box's upper edge, or below it at the image's."""
    text, height = printable(text), round(1.3 * font.size)
    left, top = corner[0], corner[1] - height if corner[1] >= height else corner[1]
    draw.rectangle((left, top, left + font.getlength(text) + 4, top + height), fill=colour)
    draw.text((left + 2, top), text, fill="black", font=font)
