"""The shapes of the demo's world, as signed distances."""

from collections.abc import Callable

import numpy as np


Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _circle(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    return np.hypot(x, y) - radius


def _box(x: np.ndarray, y: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _sector(x: np.ndarray, y: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Fold the plane into one of `n` mirrored sectors; the sector's axis becomes the first coordinate."""
    width = 2 * np.pi / n
    angle = np.mod(np.arctan2(x, y) + width / 2, width) - width / 2
    radius = np.hypot(x, y)
    return radius * np.cos(angle), radius * np.abs(np.sin(angle))


def _polygon(x: np.ndarray, y: np.ndarray, n: int, apothem: float) -> np.ndarray:
    """A regular polygon with a corner at the top."""
    return _sector(-x, -y, n)[0] - apothem if n % 2 else _sector(y, x, n)[0] - apothem


def _star(x: np.ndarray, y: np.ndarray, n: int, tip: float, notch: float) -> np.ndarray:
    """A star of `n` tips at radius `tip`, with notches at radius `notch` between them."""
    along, across = _sector(x, y, n)
    edge_x, edge_y = notch * np.cos(np.pi / n) - tip, notch * np.sin(np.pi / n)
    return ((along - tip) * edge_y - across * edge_x) / np.hypot(edge_x, edge_y)


def _arrow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    shaft = _box(x + 0.4, y, 0.55, 0.24)
    head = np.maximum((np.abs(y) * 0.85 + (x - 0.95) * 0.7) / np.hypot(0.85, 0.7), 0.08 - x)
    return np.minimum(shaft, head)


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(_box(x, y, 0.9, 0.29), _box(x, y, 0.29, 0.9))


def _diamond(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (np.abs(x) / 0.58 + np.abs(y) / 0.98 - 1) / np.hypot(1 / 0.58, 1 / 0.98)


def _drop(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    bulb = _circle(x, y + 0.32, 0.62)
    tip = np.maximum(np.abs(x) * 0.872 + (y - 0.95) * 0.488, -0.02 - y)
    return np.minimum(bulb, tip)


def _flower(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(x, y) - 0.7 - 0.22 * np.cos(5 * np.arctan2(x, y))


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    scale = 1.75
    x, y = np.abs(x) / scale, y / scale + 0.53
    lobe = np.hypot(x - 0.25, y - 0.75) - np.sqrt(2) / 4
    fold = np.maximum(x + y, 0) / 2
    flank = np.minimum(np.hypot(x, y - 1), np.hypot(x - fold, y - fold)) * np.sign(x - y)
    return scale * np.where(x + y > 1, lobe, flank)


def _moon(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(_circle(x + 0.1, y, 0.92), -_circle(x - 0.42, y, 0.75))


def _oval(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    level = np.hypot(x / 0.98, y / 0.55)
    return level * (level - 1) / np.maximum(np.hypot(x / 0.98**2, y / 0.55**2), 1e-6)


SHAPES: dict[str, Distance] = {
    "arrow": _arrow,
    "circle": lambda x, y: _circle(x, y, 0.85),
    "cross": _cross,
    "diamond": _diamond,
    "drop": _drop,
    "flower": _flower,
    "heart": _heart,
    "hexagon": lambda x, y: _polygon(x, y, 6, 0.8),
    "moon": _moon,
    "oval": _oval,
    "ring": lambda x, y: np.abs(_circle(x, y, 0.64)) - 0.24,
    "square": lambda x, y: _box(x, y, 0.74, 0.74),
    "star": lambda x, y: _star(x, y, 5, 1.0, 0.42),
    "triangle": lambda x, y: _polygon(x, y - -0.15, 3, 0.52),
}
"""Word → signed distance of points `x`, `y`, negative inside. `y` points upwards; shapes about fill the unit disc."""
