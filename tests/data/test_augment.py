"""Random crops and flips: of the size asked for, as varied as CoOp's, and repeatable."""

import pytest
import torch
from PIL import Image

from hf_sharp_prompt.data import RandomResizedCropFlip


SIDE = 256


@pytest.fixture
def map_of_places() -> Image.Image:
    """An image whose red is the column and whose green is the row, so that a crop tells where it is from."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return Image.fromarray(torch.stack([columns, rows, torch.zeros_like(rows)], dim=-1).to(torch.uint8).numpy())


def box(crop: Image.Image) -> tuple[float, float, float, float]:
    """Left, top, width and height in the image of places; a negative width where it was flipped."""
    size = crop.width
    (left, top, _), (right, bottom, _) = crop.getpixel((0, 0)), crop.getpixel((size - 1, size - 1))
    grow = size / (size - 1)  # from the outermost pixels' centres to the edges
    return left, top, (right - left) * grow, (bottom - top) * grow


@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (10, 300), (1, 1), (224, 224)])
@pytest.mark.parametrize("size", [1, 32, 48])
def test_crops_have_the_size_asked_for(shape, size):
    """Otherwise the processor resizes again, or fails on images longer than wide."""
    augment = RandomResizedCropFlip(size)
    assert all(augment(Image.new("RGB", shape)).size == (size, size) for _ in range(5))


def test_the_same_seed_gives_the_same_crops(map_of_places):
    """Otherwise runs cannot be repeated."""
    augment = RandomResizedCropFlip(32)
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append([augment(map_of_places).tobytes() for _ in range(4)])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert len(set(runs[0])) == 4


def test_half_of_the_crops_are_flipped(map_of_places):
    """Otherwise the augmentation is not CoOp's."""
    torch.manual_seed(0)
    augment = RandomResizedCropFlip(16)
    flipped = sum(box(augment(map_of_places))[2] < 0 for _ in range(1000))
    assert 450 <= flipped <= 550


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.5, 0.6)])
def test_areas_ratios_and_places_are_spread_over_their_ranges(map_of_places, scale):
    """Otherwise training sees too little of the image, or always the same part."""
    torch.manual_seed(0)
    augment = RandomResizedCropFlip(64, scale)
    boxes = [box(augment(map_of_places)) for _ in range(300)]
    areas = torch.tensor([abs(width) * height / SIDE**2 for _, _, width, height in boxes])
    ratios = torch.tensor([abs(width) / height for _, _, width, height in boxes])
    assert scale[0] * 0.9 <= areas.min() < scale[0] * 1.2
    assert scale[1] * 0.85 < areas.max() <= min(scale[1] * 1.1, 1.02)
    assert 3 / 4 * 0.93 <= ratios.min() < 0.8
    assert 1.25 < ratios.max() <= 4 / 3 * 1.07
    lefts = torch.tensor([min(left, left + width) for left, _, width, _ in boxes])
    tops = torch.tensor([top for _, top, _, _ in boxes])
    for starts in (lefts, tops):
        assert starts.min() < 8
        assert starts.max() > SIDE * (1 - scale[1] ** 0.5) * 0.9 + 10


def test_where_no_crop_fits_the_largest_centred_square_is_taken():
    """Otherwise very long images are squashed, or never terminate."""
    strip = Image.new("RGB", (300, 10))
    strip.paste((255, 255, 255), (145, 0, 155, 10))
    crop = RandomResizedCropFlip(8, scale=(1.0, 1.0))(strip)
    assert min(low for low, _ in crop.getextrema()) > 240
