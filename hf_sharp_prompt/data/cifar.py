"""Prepare images of CIFAR's size for a large vision transformer."""

from __future__ import annotations

import torch
from PIL import Image, ImageOps

from .auto_augment import CIFARAutoAugment


CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2023, 0.1994, 0.2010)
"""Mean and standard deviation of CIFAR's channels, for an image processor's `image_mean` and `image_std`."""


class CIFARAugmentation:
    """RSAM-PT's augmentation of CIFAR: padded crop, flip, AutoAugment and Cutout, before images are enlarged.

    The image is padded by 4 black pixels and cropped to its size again, flipped with probability 1/2, changed by
    [`CIFARAutoAugment`], and one square of 16 × 16 pixels around a random pixel is made black. Random numbers are
    torch's, so that data loader workers and resumed runs draw the same ones. The processor enlarges the result.

    Args:
        size: Height and width in pixels. Other images are resized first.
        padding: Pixels added on each side before the crop.
        cutout: Side of the black square, in pixels. The part of it outside of the image does not count.

    Returns:
        When called with a PIL image in RGB: a PIL image of `size` × `size`.

    Reference:
        `CIFAR100_LT` in https://github.com/Keke921/GNM-PT/blob/main/datasets/cifar100.py
    """

    def __init__(self, size: int = 32, padding: int = 4, cutout: int = 16) -> None:
        self.size, self.padding, self.cutout = size, padding, cutout
        self.policy = CIFARAutoAugment()

    def __call__(self, image: Image.Image) -> Image.Image:
        if image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        image = ImageOps.expand(image, self.padding)
        left, top = torch.randint(2 * self.padding + 1, (2,)).tolist()
        image = image.crop((left, top, left + self.size, top + self.size))
        if torch.rand(()) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = self.policy(image)
        x, y = torch.randint(self.size, (2,)).tolist()
        half = self.cutout // 2
        corners = (max(x - half, 0), max(y - half, 0), min(x + half, self.size), min(y + half, self.size))
        image = image.copy()
        image.paste((0, 0, 0), corners)
        return image


class ResizeCenterCrop:
    """Resize an image and crop its centre, to prepare it for a test.

    Args:
        size: Height and width of the result, in pixels.
        resized: Height and width before the crop; by default 8/7 of `size`, which is 256 for 224.

    Returns:
        When called with a PIL image: a PIL image of `size` × `size`, resampled bilinearly.
    """

    def __init__(self, size: int, resized: int | None = None) -> None:
        self.size, self.resized = size, size * 8 // 7 if resized is None else resized

    def __call__(self, image: Image.Image) -> Image.Image:
        image = image.resize((self.resized, self.resized), Image.Resampling.BILINEAR)
        margin = (self.resized - self.size) // 2
        return image.crop((margin, margin, margin + self.size, margin + self.size))
