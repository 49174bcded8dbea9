"""The demo's world: one coloured, textured shape on a backdrop, rendered from integers.

An image depends only on its scene's words and on its key, a tuple of integers. It does not depend on the batch, the
order, or any global state.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from .shapes import SHAPES
from .styles import STYLES, Canvas
from .textures import TEXTURES


IMAGE_SIZE = 48

COLOURS: dict[str, tuple[float, float, float]] = {
    "black": (0.07, 0.07, 0.08),
    "blue": (0.13, 0.28, 0.85),
    "brown": (0.47, 0.27, 0.12),
    "cyan": (0.20, 0.80, 0.85),
    "green": (0.12, 0.60, 0.20),
    "grey": (0.52, 0.52, 0.52),
    "orange": (0.97, 0.52, 0.08),
    "pink": (0.97, 0.55, 0.72),
    "purple": (0.48, 0.16, 0.65),
    "red": (0.86, 0.10, 0.12),
    "white": (0.96, 0.96, 0.95),
    "yellow": (0.96, 0.86, 0.15),
}
"""Word → red, green, blue in [0, 1]."""

SIZES: dict[str, tuple[float, float]] = {"small": (12.5, 15.0), "large": (17.0, 20.0)}
"""Word → range of the object's radius in pixels."""


class Stream(IntEnum):
    """The first integer of the keys of each random stream, so that no two streams coincide."""

    PRETRAIN_SCENE = 1
    PRETRAIN_IMAGE = 2
    TASK_SCENE = 3
    TASK_IMAGE = 4


@dataclass(frozen=True)
class Scene:
    """Everything in an image that words describe.

    Args:
        colour: a word of `COLOURS`: the object's.
        texture: a word of `TEXTURES`.
        shape: a word of `SHAPES`.
        backdrop: a word of `COLOURS`, shown paler than an object of that colour.
        size: a word of `SIZES`.
        style: a word of `STYLES`.
    """

    colour: str
    texture: str
    shape: str
    backdrop: str
    size: str
    style: str


def _pale(colour: np.ndarray) -> np.ndarray:
    """Mix a backdrop's colour with grey, so that the object stands out."""
    return 0.5 * colour + 0.5 * 0.55


def _contrasting(colour: str) -> list[str]:
    """List the backdrops that an object of this colour stands out from."""
    near = np.asarray(COLOURS[colour])
    far = {word: np.linalg.norm(_pale(np.asarray(shade)) - near) > 0.25 for word, shade in COLOURS.items()}
    return [word for word in COLOURS if word != colour and far[word]]


_BACKDROPS = {colour: _contrasting(colour) for colour in COLOURS}


def draw_scene(rng: np.random.Generator, styles: Sequence[str], **fixed: str) -> Scene:
    """Draw a scene at random.

    Args:
        rng: the random numbers.
        styles: the styles to choose from.
        **fixed: fields of `Scene` that are not drawn, with their words.

    Returns:
        A scene whose backdrop differs visibly from its object.
    """
    choice = {"colour": tuple(COLOURS), "texture": tuple(TEXTURES), "shape": tuple(SHAPES), "size": tuple(SIZES)}
    choice["style"] = tuple(styles)
    words = {field: fixed.get(field) or words[rng.integers(len(words))] for field, words in choice.items()}
    backdrops = _BACKDROPS[words["colour"]]
    return Scene(backdrop=fixed.get("backdrop") or backdrops[rng.integers(len(backdrops))], **words)


def render(scenes: Sequence[Scene], keys: Sequence[Sequence[int]]) -> np.ndarray:
    """Draw one image per scene.

    Args:
        scenes: what to show.
        keys: for each scene, the integers that decide place, radius, rotation, lighting, shades and noise.

    Returns:
        Images, uint8, (len(scenes), 48, 48, 3).

    Raises:
        ValueError: the numbers of keys and scenes differ.
    """
    if len(keys) != len(scenes):
        raise ValueError(f"render needs one key per scene, and got {len(keys)} keys for {len(scenes)} scenes.")
    images = np.empty((len(scenes), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    # A few images at a time stay within the processor's caches.
    for start in range(0, len(scenes), 64):
        few = slice(start, start + 64)
        images[few] = np.round(255 * np.clip(_draw(scenes[few], keys[few]), 0, 1))
    return images


def _draw(scenes: Sequence[Scene], keys: Sequence[Sequence[int]]) -> np.ndarray:
    """Return colours (n, size, size, 3) that are still to be clipped to [0, 1]."""
    dice, grain = _draw_numbers(keys)
    x, y, radius = _place(scenes, dice[:, 0:4])
    distance = radius * _by_word(SHAPES, [scene.shape for scene in scenes], x, y)
    tone = _tone([scene.texture for scene in scenes], x * radius, y * radius, grain, dice[:, 4:8])
    image = _light(scenes, distance, tone, dice[:, 8:17])
    canvas_styles = {word: lambda *parts, style=style: style(Canvas(*parts)) for word, style in STYLES.items()}
    return _by_word(canvas_styles, [scene.style for scene in scenes], image, distance, grain, dice[:, 17:21])


def _by_word(functions: dict, words: Sequence[str], *arrays: np.ndarray) -> np.ndarray:
    """Call the function of each word once, on the rows that have that word."""
    rows = defaultdict(list)
    for row, word in enumerate(words):
        rows[word].append(row)
    parts = [functions[word](*(array[where] for array in arrays)) for word, where in rows.items()]
    result = np.empty((len(words), *parts[0].shape[1:]), np.float32)
    for where, values in zip(rows.values(), parts):
        result[where] = values
    return result


def _draw_numbers(keys: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Draw uniform numbers for each image, (n, 21), and for each of its pixels, (n, size, size)."""
    draws = np.stack([np.random.default_rng(key).random(21 + IMAGE_SIZE**2, np.float32) for key in keys])
    return draws[:, :21], draws[:, 21:].reshape(-1, IMAGE_SIZE, IMAGE_SIZE)


def _column(values: np.ndarray) -> np.ndarray:
    return values[:, None, None]


def _place(scenes: Sequence[Scene], dice: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return every pixel's coordinates in the object's frame, where its radius is 1, and that radius in pixels."""
    low, high = np.asarray([SIZES[scene.size] for scene in scenes], np.float32).T
    radius = low + (high - low) * dice[:, 0]
    angle = np.radians(50) * (dice[:, 1] - 0.5)
    room = IMAGE_SIZE / 2 - 1 - radius
    centre = (IMAGE_SIZE - 1) / 2 + _column(room)[..., None] * (2 * dice[:, None, None, 2:4] - 1)
    rows, columns = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE].astype(np.float32)
    right, up = columns - centre[..., 0], centre[..., 1] - rows
    cos, sin, radius = _column(np.cos(angle)), _column(np.sin(angle)), _column(radius)
    return (right * cos + up * sin) / radius, (up * cos - right * sin) / radius, radius


def _tone(textures: Sequence[str], x: np.ndarray, y: np.ndarray, grain: np.ndarray, dice: np.ndarray) -> np.ndarray:
    """Return the share of the object's second tone at every pixel."""
    period = _column(6.5 + 2.5 * dice[:, 0])
    angle = _column(2 * np.pi * dice[:, 1])
    shift_u, shift_v = 0.25 * (_column(dice[:, 2]) - 0.5), 0.25 * (_column(dice[:, 3]) - 0.5)
    u = (x * np.cos(angle) + y * np.sin(angle)) / period + shift_u
    v = (y * np.cos(angle) - x * np.sin(angle)) / period + shift_v
    return _by_word(TEXTURES, textures, u, v, grain)


def _light(scenes: Sequence[Scene], distance: np.ndarray, tone: np.ndarray, dice: np.ndarray) -> np.ndarray:
    """Colour object and backdrop, and light them by one lamp."""

    def shade(words: Sequence[str], jitter: np.ndarray) -> np.ndarray:
        return np.asarray([COLOURS[word] for word in words], np.float32) + 0.1 * (jitter - 0.5)

    colour = shade([scene.colour for scene in scenes], dice[:, 0:3])
    backdrop = _pale(shade([scene.backdrop for scene in scenes], 1.5 * dice[:, 3:6] - 0.25))
    bright = colour.max(axis=1, keepdims=True) > 0.3
    second = np.where(bright, 0.4 * colour, colour + 0.4)
    colour, second, backdrop = (part[:, None, None, :] for part in (colour, second, backdrop))

    inside = np.clip(0.5 - distance, 0, 1)[..., None]
    halo = 1 - 0.4 * np.exp(-np.maximum(distance, 0) / 2.5)[..., None]
    surface = colour + tone[..., None] * (second - colour)
    image = backdrop * halo + inside * (surface - backdrop * halo)

    angle = _column(2 * np.pi * dice[:, 6])
    rows, columns = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE].astype(np.float32) / IMAGE_SIZE - 0.5
    slope = _column(0.5 * dice[:, 7]) * (columns * np.cos(angle) + rows * np.sin(angle))
    return image * (_column(0.8 + 0.3 * dice[:, 8]) + slope)[..., None]
