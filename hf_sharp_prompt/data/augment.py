from __future__ import annotations

import math

import torch
from PIL import Image


class RandomResizedCropFlip:
    """CoOp's augmentation: a random crop, resized, and flipped with probability 1/2.

    The crop's area is a share of the image's area, drawn from `scale`; its aspect ratio is drawn log-uniformly from
    3/4 to 4/3. If ten draws do not fit into the image, the largest centred square is taken. Random numbers are
    torch's, so that data loader workers and resumed runs draw the same ones.

    Args:
        size: Height and width of the result, in pixels.
        scale: Smallest and largest share of the image's area, above 0.

    Returns:
        When called with a PIL image: a PIL image of `size` × `size`, resampled bicubically.

    Raises:
        ValueError: The size is below 1, or the shares are not positive or not in this order.
    """

    def __init__(self, size: int, scale: tuple[float, float] = (0.08, 1.0)) -> None:
        if size < 1 or not 0 < scale[0] <= scale[1]:
            raise ValueError(
                f"size must be at least 1 and 0 < smallest <= largest share must hold, got size={size!r} and "
                f"scale={scale!r}."
            )
        self.size = size
        self.scale = scale

    def __call__(self, image: Image.Image) -> Image.Image:
        left, top, width, height = self._draw_box(*image.size)
        box = (left, top, left + width, top + height)
        image = image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if torch.rand(()) < 0.5 else image

    def _draw_box(self, width: int, height: int) -> tuple[int, int, int, int]:
        for _ in range(10):
            area = width * height * float(torch.empty(()).uniform_(*self.scale))
            ratio = math.exp(float(torch.empty(()).uniform_(math.log(3 / 4), math.log(4 / 3))))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return int(torch.randint(width - w + 1, ())), int(torch.randint(height - h + 1, ())), w, h
        side = min(width, height)
        return (width - side) // 2, (height - side) // 2, side, side
