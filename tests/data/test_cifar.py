"""CIFAR as RSAM-PT prepares it: AutoAugment's table and operations, crops, Cutout, and the test's centre."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from hf_sharp_prompt.data import CIFARAugmentation, CIFARAutoAugment, ResizeCenterCrop, auto_augment
from hf_sharp_prompt.data.auto_augment import CIFAR_POLICY, OPERATIONS


# Cubuk et al., table 7: operation, probability, magnitude; twice, for each of the 25 sub-policies.
TABLE = """
Invert,0.1,7 Contrast,0.2,6 | Rotate,0.7,2 TranslateX,0.3,9 | Sharpness,0.8,1 Sharpness,0.9,3
ShearY,0.5,8 TranslateY,0.7,9 | AutoContrast,0.5,8 Equalize,0.9,2 | ShearY,0.2,7 Posterize,0.3,7
Color,0.4,3 Brightness,0.6,7 | Sharpness,0.3,9 Brightness,0.7,9 | Equalize,0.6,5 Equalize,0.5,1
Contrast,0.6,7 Sharpness,0.6,5 | Color,0.7,7 TranslateX,0.5,8 | Equalize,0.3,7 AutoContrast,0.4,8
TranslateY,0.4,3 Sharpness,0.2,6 | Brightness,0.9,6 Color,0.2,8 | Solarize,0.5,2 Invert,0.0,3
Equalize,0.2,0 AutoContrast,0.6,0 | Equalize,0.2,8 Equalize,0.6,4 | Color,0.9,9 Equalize,0.6,6
AutoContrast,0.8,4 Solarize,0.2,8 | Brightness,0.1,3 Color,0.7,0 | Solarize,0.4,5 AutoContrast,0.9,3
TranslateY,0.9,9 TranslateY,0.7,9 | AutoContrast,0.9,2 Solarize,0.8,3 | Equalize,0.8,8 Invert,0.1,3
TranslateY,0.7,9 AutoContrast,0.9,1
"""


@pytest.fixture
def image() -> Image.Image:
    """Noise on a slope: no operation leaves it as it is."""
    noise = np.random.default_rng(0).integers(0, 60, (32, 32, 3))
    slope = np.linspace(20, 180, 32)[:, None, None]
    return Image.fromarray((noise + slope).astype(np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


class TestPolicy:
    def test_it_is_the_papers_table(self):
        """Otherwise another policy is called AutoAugment's."""
        published = [
            tuple((name, float(p), int(m)) for name, p, m in (op.split(",") for op in pair.split()))
            for pair in TABLE.strip().replace("\n", " | ").split(" | ")
        ]
        assert len(published) == 25
        spelled = [
            tuple((name.replace("_", " ").title().replace(" ", ""), p, m) for name, p, m in pair)
            for pair in CIFAR_POLICY
        ]
        assert spelled == published

    @pytest.mark.parametrize("name", ["shear_x", "shear_y", "translate_x", "translate_y", "rotate"])
    def test_what_moves_goes_either_way_and_leaves_grey(self, name, image):
        """Otherwise images move to one side alone, or their border is black."""
        there, back = (OPERATIONS[name](image, 9, sign) for sign in (1, -1))
        assert not np.array_equal(pixels(there), pixels(back))
        assert all((pixels(moved) == 128).all(-1).any() for moved in (there, back))
        assert np.array_equal(pixels(OPERATIONS[name](image, 0, 1)), pixels(image))

    @pytest.mark.parametrize(("name", "axis"), [("translate_x", 1), ("translate_y", 0)])
    def test_the_largest_shift_is_the_papers_share_of_the_side(self, name, axis, image):
        """150 of 331 pixels, which of 32 are 14.5."""
        moved = pixels(OPERATIONS[name](image, 9, 1))
        rest = moved.take(range(17), axis)
        assert np.array_equal(rest, pixels(image).take(range(15, 32), axis)) or np.array_equal(
            rest, pixels(image).take(range(14, 31), axis)
        )
        assert (moved.take(range(18, 32), axis) == 128).all()

    def test_values_are_the_papers(self, image):
        """Otherwise an operation is stronger or weaker than its place in the table says."""
        assert np.array_equal(pixels(OPERATIONS["posterize"](image, 7, 1)), pixels(ImageOps.posterize(image, 5)))
        assert np.array_equal(pixels(OPERATIONS["posterize"](image, 9, 1)), pixels(image) // 16 * 16)
        bright = pixels(OPERATIONS["brightness"](image, 5, -1))
        assert np.abs(bright - pixels(image) * 0.5).max() <= 1
        dark = pixels(image) < 256 - 256 * 5 / 9
        solarized = pixels(OPERATIONS["solarize"](image, 5, 1))
        assert np.array_equal(solarized, np.where(dark, pixels(image), 255 - pixels(image)))
        assert np.array_equal(pixels(OPERATIONS["invert"](image, 1, 1)), 255 - pixels(image))
        grey = pixels(OPERATIONS["color"](image, 9, -1))
        assert np.abs(np.diff(grey, axis=-1)).max() <= 0.1 * 60 + 1

    def test_sub_policies_and_operations_are_drawn_as_often_as_they_say(self, image, monkeypatch):
        """Otherwise some of the table is hardly ever used."""
        calls = []

        def recorded(name):
            return lambda image, strength, sign: calls.append((name, strength, sign)) or image

        monkeypatch.setattr(auto_augment, "OPERATIONS", {name: recorded(name) for name in OPERATIONS})
        torch.manual_seed(0)
        runs, policy = 10_000, CIFARAutoAugment()
        for _ in range(runs):
            policy(image)
        expected = {}
        for pair in CIFAR_POLICY:
            for name, probability, strength in pair:
                expected[name, strength] = expected.get((name, strength), 0) + probability / 25
        for (name, strength), share in expected.items():
            found = sum(call[:2] == (name, strength) for call in calls) / runs
            assert found == pytest.approx(share, abs=4 * (share * (1 - share) / runs) ** 0.5 + 1e-9)
        assert np.mean([sign for *_, sign in calls]) == pytest.approx(0, abs=0.05)


class TestAugmentation:
    def test_the_same_seed_gives_the_same_image(self, image):
        """Otherwise runs cannot be repeated."""
        augment, runs = CIFARAugmentation(), []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            runs.append(pixels(augment(image)))
        assert np.array_equal(runs[0], runs[1])
        assert not np.array_equal(runs[0], runs[2])

    def test_crops_shift_by_up_to_four_pixels_into_black(self, monkeypatch):
        """Otherwise crops are of another size, or never reach the border."""
        places = np.stack([*np.meshgrid(np.arange(100, 132), np.arange(100, 132)), np.full((32, 32), 7)], -1)
        augment = CIFARAugmentation(cutout=0)
        monkeypatch.setattr(augment, "policy", lambda image: image)
        torch.manual_seed(0)
        seen = set()
        for _ in range(2500):
            made = pixels(augment(Image.fromarray(places.astype(np.uint8))))
            assert made.shape == (32, 32, 3)
            x, y, _ = made[16, 16]
            flipped = made[16, 17, 0] < x
            seen.add((x - (115 if flipped else 116), y - 116, bool(flipped)))
        shifts = range(-4, 5)
        assert seen == {(x, y, flipped) for x in shifts for y in shifts for flipped in (False, True)}

    def test_a_square_of_sixteen_is_black_and_cut_off_at_the_border(self, monkeypatch):
        """Otherwise Cutout removes more or less than the paper's."""
        augment = CIFARAugmentation(padding=0)
        monkeypatch.setattr(augment, "policy", lambda image: image)
        white, sizes = Image.new("RGB", (32, 32), "white"), []
        for seed in range(200):
            torch.manual_seed(seed)
            rows, columns = np.nonzero((pixels(augment(white)) == 0).all(-1))
            sizes.append((np.ptp(rows) + 1, np.ptp(columns) + 1))
            assert len(rows) == sizes[-1][0] * sizes[-1][1]
        assert {side for size in sizes for side in size} == set(range(8, 17))
        assert white.getpixel((0, 0)) == (255, 255, 255), "what was given is as it was"

    @pytest.mark.parametrize("shape", [(48, 48), (60, 20)])
    def test_other_sizes_are_brought_to_cifars_first(self, shape):
        """Otherwise 16 pixels are another share of the image."""
        assert CIFARAugmentation()(Image.new("RGB", shape)).size == (32, 32)


def test_a_test_image_is_the_centre_of_one_that_is_larger_by_a_seventh():
    """224 of 256, as the authors test."""
    places = np.stack([*np.meshgrid(np.arange(256), np.arange(256)), np.zeros((256, 256))], -1)
    made = pixels(ResizeCenterCrop(224)(Image.fromarray(places.astype(np.uint8))))
    assert made.shape == (224, 224, 3)
    assert made[0, 0].tolist() == [16, 16, 0]
    assert made[-1, -1].tolist() == [239, 239, 0]
