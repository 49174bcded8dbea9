"""The textures of the demo's world: which of its two tones a surface shows at each point."""

from collections.abc import Callable

import numpy as np


Pattern = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _soft(signed: np.ndarray) -> np.ndarray:
    """Return 1 where `signed` (in periods) is positive, 0 where it is negative, with a transition of about a pixel."""
    return np.clip(0.5 + 6 * signed, 0, 1)


def _lines(u: np.ndarray, width: float = 0.5) -> np.ndarray:
    """Draw one line across `u` per period, `width` of the period wide."""
    return _soft(width / 2 - np.abs(u - np.round(u)))


def _triangle_wave(u: np.ndarray) -> np.ndarray:
    """A triangle wave of period 1 between -0.5 and 0.5."""
    return 2 * np.abs(u - np.round(u)) - 0.5


def _bricked(u: np.ndarray, v: np.ndarray, grain: np.ndarray) -> np.ndarray:
    row = np.floor(v + 0.5)
    return np.maximum(_lines(v + 0.5, 0.28), _lines(0.6 * u + 0.5 * np.mod(row, 2), 0.17))


def _checkered(u: np.ndarray, v: np.ndarray, grain: np.ndarray) -> np.ndarray:
    return _soft(2 * _triangle_wave(0.8 * u) * _triangle_wave(0.8 * v))


def _dotted(u: np.ndarray, v: np.ndarray, grain: np.ndarray) -> np.ndarray:
    return _soft(0.3 - np.hypot(u - np.round(u), v - np.round(v)))


def _netted(u: np.ndarray, v: np.ndarray, grain: np.ndarray) -> np.ndarray:
    return np.maximum(_lines(u, 0.3), _lines(v, 0.3))


def _speckled(u: np.ndarray, v: np.ndarray, grain: np.ndarray) -> np.ndarray:
    return (grain > 0.72).astype(u.dtype)


def _swirled(u: np.ndarray, v: np.ndarray, grain: np.ndarray) -> np.ndarray:
    return _lines(0.8 * np.hypot(u, v) + np.arctan2(v, u) / np.pi)


TEXTURES: dict[str, Pattern] = {
    "bricked": _bricked,
    "checkered": _checkered,
    "dotted": _dotted,
    "netted": _netted,
    "plain": lambda u, v, grain: np.zeros_like(u),
    "ringed": lambda u, v, grain: _lines(0.9 * np.hypot(u, v)),
    "speckled": _speckled,
    "striped": lambda u, v, grain: _lines(u),
    "swirled": _swirled,
    "wavy": lambda u, v, grain: _lines(v + 0.35 * np.sin(3 * u)),
}
"""Word → share of the second tone in [0, 1] at points `u`, `v`, in periods from the object's centre. `grain` is
uniform noise per pixel."""
