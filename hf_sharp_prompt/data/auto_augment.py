"""AutoAugment's policy for CIFAR, with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from PIL import Image, ImageEnhance, ImageOps


Operation = Callable[[Image.Image, int, int], Image.Image]
FILL = (128, 128, 128)
TRANSLATION = 150 / 331
"""The largest shift, as a share of the image's side."""

CIFAR_POLICY: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("auto_contrast", 0.5, 8), ("equalize", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 7), ("auto_contrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 3)),
    (("equalize", 0.2, 0), ("auto_contrast", 0.6, 0)),
    (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
    (("color", 0.9, 9), ("equalize", 0.6, 6)),
    (("auto_contrast", 0.8, 4), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("auto_contrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("auto_contrast", 0.9, 2), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("auto_contrast", 0.9, 1)),
)
"""The 25 sub-policies of the paper's table 7: two operations each, with probability and strength from 0 to 9."""


class CIFARAutoAugment:
    """AutoAugment's policy for CIFAR: one of 25 pairs of operations, each applied with its own probability.

    Operations with a direction go either way with equal probability. Random numbers are torch's.

    Returns:
        When called with a PIL image in RGB: a PIL image of the same size.

    Reference:
        Cubuk et al., "AutoAugment: Learning Augmentation Strategies from Data", CVPR 2019,
        https://arxiv.org/abs/1805.09501
    """

    def __call__(self, image: Image.Image) -> Image.Image:
        for name, probability, strength in CIFAR_POLICY[int(torch.randint(len(CIFAR_POLICY), ()))]:
            if torch.rand(()) < probability:
                image = OPERATIONS[name](image, strength, 1 if torch.rand(()) < 0.5 else -1)
        return image


def _affine(image: Image.Image, matrix: tuple[float, ...], resample: Image.Resampling) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=FILL)


def _shear_x(image: Image.Image, strength: int, sign: int) -> Image.Image:
    return _affine(image, (1, sign * 0.3 * strength / 9, 0, 0, 1, 0), Image.Resampling.BICUBIC)


def _shear_y(image: Image.Image, strength: int, sign: int) -> Image.Image:
    return _affine(image, (1, 0, 0, sign * 0.3 * strength / 9, 1, 0), Image.Resampling.BICUBIC)


def _translate_x(image: Image.Image, strength: int, sign: int) -> Image.Image:
    shift = sign * TRANSLATION * strength / 9 * image.width
    return _affine(image, (1, 0, shift, 0, 1, 0), Image.Resampling.NEAREST)


def _translate_y(image: Image.Image, strength: int, sign: int) -> Image.Image:
    shift = sign * TRANSLATION * strength / 9 * image.height
    return _affine(image, (1, 0, 0, 0, 1, shift), Image.Resampling.NEAREST)


def _rotate(image: Image.Image, strength: int, sign: int) -> Image.Image:
    return image.rotate(sign * 30 * strength / 9, fillcolor=FILL)


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    def operation(image: Image.Image, strength: int, sign: int) -> Image.Image:
        return kind(image).enhance(1 + sign * 0.9 * strength / 9)

    return operation


OPERATIONS: dict[str, Operation] = {
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
    "rotate": _rotate,
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "brightness": _enhance(ImageEnhance.Brightness),
    "posterize": lambda image, strength, sign: ImageOps.posterize(image, round(8 - 4 * strength / 9)),
    "solarize": lambda image, strength, sign: ImageOps.solarize(image, math.ceil(256 - 256 * strength / 9)),
    "auto_contrast": lambda image, strength, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, strength, sign: ImageOps.equalize(image),
    "invert": lambda image, strength, sign: ImageOps.invert(image),
}
"""Operation → function of an image, a strength from 0 to 9, and a sign of 1 or -1."""
