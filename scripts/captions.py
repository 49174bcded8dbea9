"""Captions of the demo's world, in varied words and orders."""

from dataclasses import asdict, dataclass

import numpy as np

from hf_sharp_prompt.demo.world import Scene


@dataclass(frozen=True)
class Caption:
    """A caption and what it claims.

    Args:
        text: lower-case English.
        stated: the fields of `Scene` that the text tells, with their words. The caption is true of every scene that
            agrees in these fields.
    """

    text: str
    stated: dict[str, str]


_MENTIONS = {"shape": 0.85, "colour": 0.75, "texture": 0.65, "style": 0.45, "backdrop": 0.2, "size": 0.2}
"""Field → share of the captions that tell it."""

_NOUNS = ("thing", "object", "shape")
_MEDIA = {
    "photo": ("a clear photo of", "a sharp photo of"),
    "sketch": ("a sketch of", "a drawing of"),
    "blurry": ("a blurry photo of", "a photo, out of focus, of"),
    "noisy": ("a noisy photo of", "a grainy photo of"),
    "dark": ("a dark photo of", "a photo in the dark of"),
    "faded": ("a faded photo of", "a pale photo of"),
    "pixelated": ("a pixelated photo of", "a low resolution photo of"),
    "old": ("an old photo of", "a sepia photo of"),
}
"""Style of pre-training → its names in captions."""

_UNNAMED = ("a photo of", "a picture of", "an image of", "this is", "there is")


def describe(scene: Scene, rng: np.random.Generator) -> Caption:
    """Write one of many true captions.

    Args:
        scene: what the image shows, in one of the styles of pre-training.
        rng: the random numbers.

    Returns:
        A caption that tells some of the scene's fields, at least one of shape, colour and texture.
    """
    words = asdict(scene)
    stated = {field: words[field] for field, share in _MENTIONS.items() if rng.random() < share}
    if not stated.keys() & {"shape", "colour", "texture"}:
        stated["shape"] = scene.shape

    noun = stated.get("shape") or _pick(_NOUNS, rng)
    adjectives = [stated[field] for field in ("texture", "colour") if field in stated]
    if rng.random() < 0.3:
        adjectives.reverse()
    if "size" in stated:
        adjectives.insert(0, scene.size)
    medium = _pick(_MEDIA[scene.style] if "style" in stated else _UNNAMED, rng)

    opening = f"{medium} " if "style" in stated or rng.random() < 0.75 else ""
    if adjectives and rng.random() < 0.12:
        claim = " and ".join(adjectives)
        text = f"{opening}{_article(noun)} that is {claim}" if opening else f"the {noun} is {claim}"
    else:
        text = opening + _article(" ".join([*adjectives, noun]))
    if "backdrop" in stated:
        text += f" on {_article(scene.backdrop)} background"
    return Caption(text + _pick(("", "."), rng), stated)


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[rng.integers(len(options))]


def _article(phrase: str) -> str:
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"
