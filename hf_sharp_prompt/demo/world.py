"""The demo's world: one coloured, textured shape on a backdrop, rendered from integers.

An image depends only on its scene's words and on its key, a tuple of integers. It does not depend on the batch, the
order, or any global state.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
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
    PRETRAIN_OBJECTS = 5
    TASK_OBJECTS = 6
    PRETRAIN_OBJECTS_IMAGE = 7


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


BACKDROPS = {colour: _contrasting(colour) for colour in COLOURS}
"""Colour of an object → the backdrops that it stands out from."""


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
    backdrops = BACKDROPS[words["colour"]]
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
    dice, grain = draw_numbers(keys, 21, IMAGE_SIZE)
    radius, angle = pose(scenes, dice[:, 0:2], SIZES)
    centre = place(radius, dice[:, 2:4], IMAGE_SIZE)
    distance, surface = shape_and_surface(scenes, (radius, angle, centre), grain, dice[:, 4:11])
    image = paint(paint_backdrop(scenes, dice[:, 11:14]), distance, surface)
    return apply_styles(scenes, light(image, dice[:, 14:17]), distance, grain, dice[:, 17:21])


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


def draw_numbers(keys: Sequence[Sequence[int]], count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw uniform numbers for each image, (n, count), and for each of its pixels, (n, size, size)."""
    draws = np.stack([np.random.default_rng(key).random(count + size**2, np.float32) for key in keys])
    return draws[:, :count], draws[:, count:].reshape(-1, size, size)


def _column(values: np.ndarray) -> np.ndarray:
    return values[:, None, None]


def pose(
    scenes: Sequence[Scene], dice: np.ndarray, sizes: Mapping[str, tuple[float, float]]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw each object's radius in pixels and its rotation in radians.

    Args:
        scenes: n objects.
        dice: uniform numbers, (n, 2).
        sizes: word of `SIZES` → range of the radius in pixels.

    Returns:
        Radii and angles, each (n,).
    """
    low, high = np.asarray([sizes[scene.size] for scene in scenes], np.float32).T
    return low + (high - low) * dice[:, 0], np.radians(50) * (dice[:, 1] - 0.5)


def place(radius: np.ndarray, dice: np.ndarray, size: int) -> np.ndarray:
    """Draw centres that keep objects inside the image.

    Args:
        radius: the objects' radii in pixels, (n,).
        dice: uniform numbers, (n, 2).
        size: the images' height and width.

    Returns:
        Column and row of each centre, (n, 2).
    """
    return (size - 1) / 2 + (size / 2 - 1 - radius)[:, None] * (2 * dice - 1)


def shape_and_surface(
    scenes: Sequence[Scene],
    poses: tuple[np.ndarray, np.ndarray, np.ndarray],
    grain: np.ndarray,
    dice: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Work out where objects are and how their surfaces look.

    Args:
        scenes: n objects.
        poses: their radii (n,), angles (n,) and centres (n, 2).
        grain: uniform noise per pixel, (n, size, size).
        dice: uniform numbers, (n, 7).

    Returns:
        Signed distances to the objects' edges in pixels, (n, size, size), and the colours that the objects would have
        at every pixel, (n, size, size, 3).
    """
    radius, angle, centre = poses
    x, y = _object_coordinates(radius, angle, centre, grain.shape[1])
    radius = _column(radius)
    distance = radius * _by_word(SHAPES, [scene.shape for scene in scenes], x, y)
    tone = _tone([scene.texture for scene in scenes], x * radius, y * radius, grain, dice[:, 0:4])
    colour = _shade([scene.colour for scene in scenes], dice[:, 4:7])
    bright = colour.max(axis=1, keepdims=True) > 0.3
    second = np.where(bright, 0.4 * colour, colour + 0.4)
    colour, second = colour[:, None, None, :], second[:, None, None, :]
    return distance, colour + tone[..., None] * (second - colour)


def _object_coordinates(
    radius: np.ndarray, angle: np.ndarray, centre: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return every pixel's coordinates in the object's frame, where its radius is 1."""
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    right, up = columns - _column(centre[:, 0]), _column(centre[:, 1]) - rows
    cos, sin, radius = _column(np.cos(angle)), _column(np.sin(angle)), _column(radius)
    return (right * cos + up * sin) / radius, (up * cos - right * sin) / radius


def _tone(textures: Sequence[str], x: np.ndarray, y: np.ndarray, grain: np.ndarray, dice: np.ndarray) -> np.ndarray:
    """Return the share of the object's second tone at every pixel."""
    period = _column(6.5 + 2.5 * dice[:, 0])
    angle = _column(2 * np.pi * dice[:, 1])
    shift_u, shift_v = 0.25 * (_column(dice[:, 2]) - 0.5), 0.25 * (_column(dice[:, 3]) - 0.5)
    u = (x * np.cos(angle) + y * np.sin(angle)) / period + shift_u
    v = (y * np.cos(angle) - x * np.sin(angle)) / period + shift_v
    return _by_word(TEXTURES, textures, u, v, grain)


def _shade(words: Sequence[str], jitter: np.ndarray) -> np.ndarray:
    return np.asarray([COLOURS[word] for word in words], np.float32) + 0.1 * (jitter - 0.5)


def paint_backdrop(scenes: Sequence[Scene], dice: np.ndarray) -> np.ndarray:
    """Return the colours of the scenes' backdrops, (n, 1, 1, 3); `dice` are uniform numbers, (n, 3)."""
    return _pale(_shade([scene.backdrop for scene in scenes], 1.5 * dice - 0.25))[:, None, None, :]


def paint(image: np.ndarray, distance: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """Paint objects onto images, with a shadow around each.

    Args:
        image: what is there, (n, size, size, 3) or one colour for all pixels.
        distance: signed distance to the object's edge in pixels, (n, size, size).
        surface: colours of the object, (n, size, size, 3).

    Returns:
        Colours, (n, size, size, 3).
    """
    inside = np.clip(0.5 - distance, 0, 1)[..., None]
    halo = 1 - 0.4 * np.exp(-np.maximum(distance, 0) / 2.5)[..., None]
    return image * halo + inside * (surface - image * halo)


def light(image: np.ndarray, dice: np.ndarray) -> np.ndarray:
    """Light images (n, size, size, 3) by one lamp each; `dice` are uniform numbers, (n, 3)."""
    size = image.shape[1]
    angle = _column(2 * np.pi * dice[:, 0])
    rows, columns = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    slope = _column(0.5 * dice[:, 1]) * (columns * np.cos(angle) + rows * np.sin(angle))
    return image * (_column(0.8 + 0.3 * dice[:, 2]) + slope)[..., None]


def apply_styles(
    scenes: Sequence[Scene], image: np.ndarray, distance: np.ndarray, grain: np.ndarray, dice: np.ndarray
) -> np.ndarray:
    """Show each image in its scene's style; for the arrays see `Canvas`."""
    canvas_styles = {word: lambda *parts, style=style: style(Canvas(*parts)) for word, style in STYLES.items()}
    return _by_word(canvas_styles, [scene.style for scene in scenes], image, distance, grain, dice)
