"""Images of the demo's world with several objects, and what is visible of each.

As in `world`, an image depends only on the words of its objects and on its key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from .world import (
    BACKDROPS,
    COLOURS,
    Scene,
    apply_styles,
    draw_numbers,
    draw_scene,
    light,
    paint,
    paint_backdrop,
    place,
    pose,
    shape_and_surface,
)


SCENE_SIZE = 72
"""Height and width of the images in pixels."""

MOST_OBJECTS = 4
"""Largest number of objects in an image."""

OBJECT_SIZES: dict[str, tuple[float, float]] = {"small": (9.0, 11.5), "large": (12.0, 14.5)}
"""Word of `world.SIZES` → range of an object's radius in pixels."""

BACKDROP = -1
"""What `render_objects` writes where no object is visible."""

_TRIES = 24  # places that each object can choose from
_DICE_PER_OBJECT = 2 + 7 + 2 * _TRIES
_DICE = 3 + 3 + 4 + MOST_OBJECTS * _DICE_PER_OBJECT


def draw_objects(
    rng: np.random.Generator, styles: Sequence[str], words: Sequence[Mapping[str, str]]
) -> tuple[Scene, ...]:
    """Draw a scene of several objects at random.

    Args:
        rng: the random numbers.
        styles: the styles to choose from.
        words: for each object the fields of `Scene` that are not drawn, with their words.

    Returns:
        The objects, which share one style and one backdrop. The backdrop differs visibly from each of them.
    """
    style = styles[int(rng.integers(len(styles)))]
    objects = [draw_scene(rng, (style,), **fixed) for fixed in words]
    backdrops = [word for word in COLOURS if all(word in BACKDROPS[each.colour] for each in objects)]
    backdrop = backdrops[rng.integers(len(backdrops))]
    return tuple(replace(each, backdrop=backdrop) for each in objects)


def render_objects(scenes: Sequence[Sequence[Scene]], keys: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image per scene.

    Objects keep apart where there is room. Where two overlap, the later one hides the earlier one.

    Args:
        scenes: for each image its objects, as `draw_objects` returns them, at most `MOST_OBJECTS`.
        keys: for each image, the integers that decide places, radii, rotations, lighting, shades and noise.

    Returns:
        Images, uint8, (len(scenes), 72, 72, 3); and the number of the object that is visible at each pixel, counted
        from 0 in each image, or `BACKDROP`, int64, (len(scenes), 72, 72).

    Raises:
        ValueError: the numbers of keys and scenes differ, or a scene has no or too many objects.
    """
    if len(keys) != len(scenes):
        raise ValueError(f"render_objects needs one key per scene, and got {len(keys)} keys for {len(scenes)} scenes.")
    if wrong := [len(objects) for objects in scenes if not 1 <= len(objects) <= MOST_OBJECTS]:
        raise ValueError(f"A scene has {wrong[0]} objects; it must have 1 to {MOST_OBJECTS}.")
    images = np.empty((len(scenes), SCENE_SIZE, SCENE_SIZE, 3), np.uint8)
    visible = np.empty(images.shape[:3], np.int64)
    for start in range(0, len(scenes), 32):
        few = slice(start, start + 32)
        colours, visible[few] = _draw(scenes[few], keys[few])
        images[few] = np.round(255 * np.clip(colours, 0, 1))
    return images, visible


def find_boxes(visible: np.ndarray, count: int) -> np.ndarray:
    """Find the extent of the visible pixels of each object.

    Args:
        visible: the number of the visible object at each pixel of one image, as `render_objects` returns it, (h, w).
        count: number of objects.

    Returns:
        Boxes in pixels as in COCO: left, top, width, height, int64, (count, 4). All is 0 for an object without visible
        pixels.
    """
    boxes = np.zeros((count, 4), np.int64)
    for number in range(count):
        rows, columns = np.nonzero(visible == number)
        if len(rows):
            left, top = columns.min(), rows.min()
            boxes[number] = left, top, columns.max() + 1 - left, rows.max() + 1 - top
    return boxes


def _draw(scenes: Sequence[Sequence[Scene]], keys: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return colours that are still to be clipped to [0, 1], and the visible objects."""
    dice, grain = draw_numbers(keys, _DICE, SCENE_SIZE)
    of_objects = dice[:, 10:].reshape(-1, MOST_OBJECTS, _DICE_PER_OBJECT)
    poses = [_arrange(objects, numbers) for objects, numbers in zip(scenes, of_objects)]

    first = [objects[0] for objects in scenes]
    image = np.broadcast_to(paint_backdrop(first, dice[:, 0:3]), (*grain.shape, 3)).astype(np.float32)
    nearest = np.full(grain.shape, np.inf, np.float32)
    visible = np.full(grain.shape, BACKDROP)
    for number in range(max(map(len, scenes))):
        rows = [row for row, objects in enumerate(scenes) if number < len(objects)]
        layer = [scenes[row][number] for row in rows]
        radius, angle, centre = (np.stack(parts) for parts in zip(*(poses[row][number] for row in rows)))
        distance, surface = shape_and_surface(
            layer, (radius, angle, centre), grain[rows], of_objects[rows, number, 2:9]
        )
        image[rows] = paint(image[rows], distance, surface)
        nearest[rows] = np.minimum(nearest[rows], distance)
        visible[rows] = np.where(distance <= 0, number, visible[rows])
    return apply_styles(first, light(image, dice[:, 3:6]), nearest, grain, dice[:, 6:10]), visible


def _arrange(objects: Sequence[Scene], dice: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return radius, angle and centre of each object of one image; `dice` are uniform numbers, (objects, dice)."""
    radii, angles = pose(objects, dice[: len(objects), 0:2], OBJECT_SIZES)
    centres = np.empty((len(objects), 2), np.float32)
    for number, radius in enumerate(radii):
        tries = place(np.full(_TRIES, radius), dice[number, 9:].reshape(_TRIES, 2), SCENE_SIZE)
        between = np.linalg.norm(tries[:, None] - centres[:number], axis=-1)
        gaps = (between - radius - radii[:number]).min(axis=1, initial=0)
        centres[number] = tries[gaps.argmax()]  # the first without an overlap, or else the one with the smallest
    return list(zip(radii, angles, centres))
