"""The styles (domains) of the demo's world: the same scene in another medium or weather."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass
class Canvas:
    """A batch of rendered scenes, the input of a style.

    Args:
        image: colours in [0, 1], (n, size, size, 3).
        distance: signed distance to the object's edge in pixels, negative inside, (n, size, size).
        grain: uniform noise per pixel, (n, size, size).
        dice: uniform random numbers for the style, (n, 4).
    """

    image: np.ndarray
    distance: np.ndarray
    grain: np.ndarray
    dice: np.ndarray

    def die(self, number: int, low: float, high: float) -> np.ndarray:
        """Return one random number per image in [low, high), shaped to multiply `image`."""
        return (low + (high - low) * self.dice[:, number])[:, None, None, None]

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the column and the row of every pixel, each (size, size)."""
        size = self.image.shape[1]
        rows, columns = np.mgrid[:size, :size].astype(self.image.dtype)
        return columns, rows


Style = Callable[[Canvas], np.ndarray]


def _luminance(image: np.ndarray) -> np.ndarray:
    return image @ np.asarray([[0.3], [0.59], [0.11]], image.dtype)


def _blur(image: np.ndarray, passes: int) -> np.ndarray:
    """Apply the binomial filter (1, 2, 1)/4 along rows and columns, `passes` times."""
    for _ in range(passes):
        for axis in (1, 2):
            padding = [(1, 1) if i == axis else (0, 0) for i in range(image.ndim)]
            padded = np.swapaxes(np.pad(image, padding, mode="edge"), 0, axis)
            image = np.swapaxes((padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4, 0, axis)
    return image


def _blocks(image: np.ndarray, edge: int) -> np.ndarray:
    """Average over blocks of `edge` × `edge` pixels; the result has one pixel per block."""
    n, size, _, channels = image.shape
    return image.reshape(n, size // edge, edge, size // edge, edge, channels).mean(axis=(2, 4))


def _enlarge(image: np.ndarray, edge: int) -> np.ndarray:
    return image.repeat(edge, axis=1).repeat(edge, axis=2)


def _noise(canvas: Canvas) -> np.ndarray:
    """Make zero-mean noise per pixel and channel in [-1, 1], from one field of grain at three offsets."""
    shifts = [np.roll(canvas.grain, shift, axis=(1, 2)) for shift in ((0, 0), (17, 5), (8, 29))]
    return 2 * np.stack(shifts, axis=-1) - 1


def _outline(canvas: Canvas, width: float) -> np.ndarray:
    return np.clip(width - np.abs(canvas.distance), 0, 1)[..., None]


def _photo(canvas: Canvas) -> np.ndarray:
    return canvas.image + 0.02 * _noise(canvas)


def _sketch(canvas: Canvas) -> np.ndarray:
    columns, rows = canvas.pixels()
    hatching = np.mod(columns + rows, 4) < 2
    paper = 0.94 + 0.05 * canvas.grain[..., None]
    inside = np.clip(0.5 - canvas.distance, 0, 1)[..., None]
    strength = (0.3 + 0.55 * inside) * (0.6 + 0.4 * hatching[..., None])
    drawn = paper + strength * (canvas.image - paper)
    return drawn + _outline(canvas, 1.3) * (0.15 - drawn)


def _blurry(canvas: Canvas) -> np.ndarray:
    return _blur(canvas.image, 5)


def _noisy(canvas: Canvas) -> np.ndarray:
    return canvas.image + canvas.die(0, 0.3, 0.45) * _noise(canvas)


def _dark(canvas: Canvas) -> np.ndarray:
    return canvas.image * canvas.die(0, 0.25, 0.45) + 0.03 * _noise(canvas)


def _faded(canvas: Canvas) -> np.ndarray:
    return canvas.die(0, 0.5, 0.65) + 0.36 * (canvas.image - 0.4)


def _pixelated(canvas: Canvas) -> np.ndarray:
    return _enlarge(_blocks(canvas.image, 3), 3)


def _old(canvas: Canvas) -> np.ndarray:
    sepia = _luminance(canvas.image) * np.asarray([1.05, 0.85, 0.6], canvas.image.dtype)
    return 0.45 * canvas.image + 0.5 * sepia + 0.06 + 0.05 * _noise(canvas)


def _tinted(canvas: Canvas) -> np.ndarray:
    return canvas.image * np.asarray([0.45, 0.95, 0.5], canvas.image.dtype) + 0.03


def _foggy(canvas: Canvas) -> np.ndarray:
    bank = _enlarge(_blocks(canvas.grain[..., None], 12), 12)
    _, rows = canvas.pixels()
    thickness = canvas.die(0, 0.64, 0.76) + 0.2 * (rows[..., None] / rows.max() - 0.5) + 1.2 * (_blur(bank, 12) - 0.5)
    return canvas.image + np.clip(thickness, 0, 0.9) * (0.8 - canvas.image)


def _nightly(canvas: Canvas) -> np.ndarray:
    columns, rows = canvas.pixels()
    size = len(rows)
    away = np.hypot(columns - size * canvas.die(0, 0.3, 0.7)[..., 0], rows - size * canvas.die(1, 0.3, 0.7)[..., 0])
    lamp = np.exp(-((away / (0.45 * size)) ** 2))[..., None]
    moonlight = np.asarray([0.14, 0.18, 0.34], canvas.image.dtype)
    warm = np.asarray([0.75, 0.6, 0.35], canvas.image.dtype)
    return canvas.image * (moonlight + lamp * warm) + 0.06 * _noise(canvas) + 0.02


def _embossed(canvas: Canvas) -> np.ndarray:
    grey = _luminance(canvas.image)
    padded = np.pad(grey, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    relief = padded[:, :-2, :-2] - padded[:, 2:, 2:]
    return 0.5 + 0.9 * relief + 0.3 * (canvas.image - 0.5)


def _posterised(canvas: Canvas) -> np.ndarray:
    return np.round(2 * (0.5 + 1.3 * (canvas.image - 0.5))) / 2


def _rainy(canvas: Canvas) -> np.ndarray:
    columns, rows = canvas.pixels()
    size = len(rows)
    column = np.mod(columns + 0.35 * rows, size).astype(int)
    streaks = np.take_along_axis(canvas.grain[:, :1].repeat(size, 1), column[None].repeat(len(canvas.grain), 0), 2)
    broken = np.mod(rows * 0.12 + 7 * streaks, 1) < 0.75
    drops = ((streaks > 0.72) & broken)[..., None]
    grey = 0.25 + 0.55 * (0.7 * _blur(canvas.image, 2) + 0.3 * _luminance(canvas.image))
    return grey + 0.35 * drops * (0.95 - grey)


def _printed(canvas: Canvas) -> np.ndarray:
    columns, rows = canvas.pixels()
    edge = 4
    darkness = 1 - _luminance(canvas.image)
    u, v = np.mod(columns + 0.5, edge) - edge / 2, np.mod(rows + 0.5, edge) - edge / 2
    dots = np.clip(0.5 + edge * 0.72 * np.sqrt(np.clip(darkness, 0, 1)) - np.hypot(u, v)[..., None], 0, 1)
    return 0.97 + dots * (0.85 * canvas.image - 0.97)


SEEN_STYLES: dict[str, Style] = {
    "photo": _photo,
    "sketch": _sketch,
    "blurry": _blurry,
    "noisy": _noisy,
    "dark": _dark,
    "faded": _faded,
    "pixelated": _pixelated,
    "old": _old,
}
"""The styles that pre-training shows and names."""

HELD_OUT_STYLES: dict[str, Style] = {
    "tint": _tinted,
    "fog": _foggy,
    "night": _nightly,
    "emboss": _embossed,
    "poster": _posterised,
    "rain": _rainy,
    "print": _printed,
}
"""The styles that pre-training never shows. They are the domain gap of the tasks."""

STYLES: dict[str, Style] = SEEN_STYLES | HELD_OUT_STYLES
"""Word → style, which turns a canvas into colours (n, size, size, 3) that are still to be clipped to [0, 1]."""
