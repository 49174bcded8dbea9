"""Whatever form an image has, the model sees its picture, or the user a sentence."""

import io
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms
from transformers.image_utils import load_image

from hf_sharp_prompt.data.decoding import decode


RAMP = np.arange(48 * 64, dtype=np.float64).reshape(48, 64) / (48 * 64 - 1)
"""From black to white, wider than high."""

GREY = (RAMP * 255).round().astype(np.uint8)
COLOURS = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)


def saved(image: Image.Image, path: Path, **options) -> str:
    image.save(path, **options)
    return str(path)


def assert_same(image: Image.Image, expected: np.ndarray, tolerance: int = 0) -> None:
    expected = np.stack([expected] * 3, axis=-1) if expected.ndim == 2 else expected
    assert (image.mode, image.size) == ("RGB", expected.shape[1::-1])
    assert np.abs(np.asarray(image).astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize(
    ("mode", "tolerance"),
    [("RGB", 0), ("RGBX", 0), ("RGBA", 0), ("CMYK", 0), ("YCbCr", 3), ("HSV", 6), ("LAB", 30), ("RGBa", 0)],
)
def test_modes_of_colours(mode, tolerance):
    """Otherwise one photo from a scanner or a designer among thousands ends the run, or has other colours."""
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.applyTransform(Image.fromarray(COLOURS), ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    else:
        image = Image.fromarray(COLOURS)
        image = image.convert("RGBA").convert("RGBa") if mode == "RGBa" else image.convert(mode)
    assert image.mode == mode
    assert_same(decode(image), COLOURS, tolerance)


@pytest.mark.parametrize("mode", ["L", "LA", "La", "P", "PA"])
def test_modes_of_grey(mode):
    image = Image.fromarray(GREY)
    image = image.convert("LA").convert("La") if mode == "La" else image.convert(mode)
    assert image.mode == mode
    assert_same(decode(image), GREY)
    bilevel = Image.fromarray(GREY > 127)
    assert bilevel.mode == "1"
    assert_same(decode(bilevel), np.where(GREY > 127, 255, 0))


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
@pytest.mark.parametrize("kind", ["image", "png", "tif", "pgm", "array", "tensor"])
def test_sixteen_bits_keep_their_upper_eight(tmp_path, dtype, kind):
    """Microscopes, CT and satellites: clipped to 8 bits, nearly the whole image is white."""
    deep = (RAMP * 65535).round().astype(dtype)
    if kind == "array":
        image = deep
    elif kind == "tensor":
        image = torch.from_numpy(deep.astype(np.uint16))
    else:
        size = deep.shape[::-1]
        mode = "I;16B" if dtype == ">u2" else "I;16"
        image = Image.frombytes(mode, size, deep.tobytes())
        if kind == "pgm":
            (tmp_path / "deep.pgm").write_bytes(b"P5 %d %d 65535\n" % size + deep.astype(">u2").tobytes())
            image = str(tmp_path / "deep.pgm")
        elif kind != "image":
            image = saved(image, tmp_path / f"deep.{kind}")
    assert_same(decode(image), (deep >> 8).astype(int))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, torch.bfloat16, torch.float32, "F"])
def test_floats_lie_between_black_and_white(dtype):
    """As torchvision takes them."""
    if dtype == "F":
        image = Image.fromarray(RAMP.astype(np.float32))
        assert image.mode == "F"
    elif isinstance(dtype, torch.dtype):
        image = torch.from_numpy(RAMP).to(dtype).requires_grad_()
    else:
        image = RAMP.astype(dtype)
    assert_same(decode(image), GREY, tolerance=1 if dtype in (torch.bfloat16, np.float16) else 0)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (COLOURS, COLOURS),
        (COLOURS.transpose(2, 0, 1), COLOURS),
        (COLOURS / 255, COLOURS),
        (COLOURS.astype(np.uint16) * 256 + 7, COLOURS),
        (np.concatenate([COLOURS, COLOURS[..., :1]], axis=-1), COLOURS),
        (np.stack([GREY, 255 - GREY], axis=-1), GREY),
        (GREY[None], GREY),
        (GREY[..., None], GREY),
        (GREY > 127, np.where(GREY > 127, 255, 0)),
    ],
    ids=["HWC", "CHW", "floats", "16 bits", "RGBA", "LA", "1HW", "HW1", "bool"],
)
@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor, lambda array: np.asfortranarray(array)])
def test_arrays_and_tensors(array, expected, make):
    """As transforms, simulations and medical readers make them."""
    assert_same(decode(make(np.ascontiguousarray(array))), expected)


def test_files_in_every_form(tmp_path):
    path = saved(Image.fromarray(COLOURS), tmp_path / "image.png")
    content = Path(path).read_bytes()
    forms = [path, Path(path), content, bytearray(content), {"bytes": content, "path": None}]
    forms += [{"bytes": None, "path": path}, {"bytes": content, "path": "gone.png"}, Image.open(path)]
    for form in forms:
        assert_same(decode(form), COLOURS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("name", "mode"), [("a.jpg", "RGB"), ("a.png", "I;16"), ("a.tif", "L"), ("a.tif", "I;16")])
def test_photos_are_upright_as_in_pipelines(tmp_path, orientation, name, mode):
    """Otherwise training sees phones' photos lying, and `pipeline` and decoded data sets see them upright."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = Image.fromarray((RAMP * 65535).astype(np.uint16)) if mode == "I;16" else Image.fromarray(GREY)
    path = saved(stored.convert(mode) if mode != "I;16" else stored, tmp_path / name, exif=exif)
    content = {"bytes": Path(path).read_bytes(), "path": None}
    forms = [decode(path), decode(content), decode(datasets.Image().decode_example(content))]
    forms += [] if name == "a.tif" else [decode(Image.open(path))]
    upright = load_image(saved(Image.fromarray(GREY), tmp_path / "grey.png", exif=exif))
    for image in forms:
        assert_same(image, np.asarray(upright), tolerance=8 if name == "a.jpg" else 1)


def test_transparency_is_dropped_as_in_pipelines(tmp_path):
    """CoOp's code and transformers' `load_image` say `convert("RGB")`: colours count, however transparent."""
    image = Image.fromarray(np.dstack([COLOURS, GREY]))
    path = saved(image, tmp_path / "a.png")
    assert_same(decode(path), np.asarray(load_image(path)))
    assert_same(decode(path), COLOURS)
    palette = Image.fromarray(GREY).convert("P")
    path = saved(palette, tmp_path / "b.png", transparency=bytes(range(256)))
    assert_same(decode(path), GREY)


def test_of_several_frames_the_first_is_taken(tmp_path):
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    for name in ("a.gif", "a.tif", "a.png"):
        path = saved(frames[0], tmp_path / name, save_all=True, append_images=frames[1:])
        assert_same(decode(path), GREY)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (RAMP * 255, "float pixels from 0 to 255; scale them to lie between 0 and 1"),
        (RAMP - 0.5, "float pixels from -0.5 to 0.5"),
        (np.where(RAMP > 0.5, np.nan, RAMP), "float pixels from nan to nan"),
        (Image.fromarray(RAMP.astype(np.float32) * 2), "float pixels from 0 to 2"),
        (GREY.astype(np.int64), "pixels of int64, whose white is not known; save it with 8 or 16 bits"),
        (Image.fromarray(GREY.astype(np.int32)), "pixels of int32, whose white is not known"),
        (GREY.astype(np.uint32), "pixels of uint32"),
        (GREY.astype(np.complex64), "pixels of complex64"),
        (np.zeros((5, 8, 8), np.uint8), r"shape \(5, 8, 8\); either its first or its last dimension"),
        (np.zeros((3, 8, 3), np.uint8), r"shape \(3, 8, 3\); either .* and not both"),
        (np.zeros((1, 3, 8, 8), np.uint8), r"shape \(1, 3, 8, 8\); give height × width"),
        (np.zeros(8, np.uint8), r"shape \(8,\); give"),
        (np.zeros((0, 8), np.uint8), "has no pixels"),
        (Image.new("RGB", (0, 8)), r"has no pixels \(0 × 8\)"),
        (None, "is missing"),
        ([[1, 2], [3, 4]], r'is of type list; .* dataset.with_format\("numpy"\)'),
        (7, "is of type int"),
    ],
)
def test_what_cannot_be_known_is_refused(image, message):
    """Otherwise the picture becomes black, white or noise, and training goes on."""
    with pytest.raises(ValueError, match=rf"The image \(number 3\) .*{message}"):
        decode(image, "number 3")


@pytest.mark.parametrize("damage", ["truncated", "not an image", "missing", "a bomb"])
def test_broken_files_are_named(tmp_path, damage, monkeypatch):
    path = Path(saved(Image.fromarray(COLOURS), tmp_path / "a.png"))
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:300])
        with pytest.raises(ValueError, match=rf"The image {path} cannot be decoded"):
            decode(Image.open(path))
    elif damage == "not an image":
        path.write_bytes(b"<html>")
    elif damage == "missing":
        path.unlink()
    else:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    problem = (
        r"has too many pixels \(.+\); make it smaller" if damage == "a bomb" else r"cannot be decoded \(.+\); repair"
    )
    for form in (str(path), {"bytes": None, "path": str(path)}):
        with pytest.raises(ValueError, match=rf"The image {path} {problem} or remove it"):
            decode(form)


def test_bytes_without_an_image_are_said_to_be_bytes():
    with pytest.raises(ValueError, match=r"The image \(given as bytes\) cannot be decoded"):
        decode(io.BytesIO(b"<html>").getvalue())


def test_a_jpeg_of_too_many_pixels_is_read_at_a_fraction_of_its_size(tmp_path, monkeypatch):
    """A panorama must neither fill the memory nor end the run."""
    path = saved(Image.fromarray(COLOURS).resize((512, 384)), tmp_path / "a.jpg", quality=95)
    small = np.asarray(Image.open(path).resize((256, 192), Image.Resampling.BOX))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 256 * 192)
    assert_same(decode(path), small, tolerance=12)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 128 * 96 + 1)
    assert decode(path).size == (128, 96)


@pytest.mark.parametrize(("content", "problem"), [(b"", "it is empty"), (b"<html>", "it is no image")])
def test_what_is_no_image_is_said_in_words(tmp_path, content, problem):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"^The image {path} cannot be decoded \({problem}\); repair or remove it\.$"
    ):
        decode(str(path))


def test_a_photo_for_print_keeps_its_colours(tmp_path):
    """CMYK in a JPEG is stored upside down by some programs; Pillow knows which."""
    colours = np.full((16, 16, 3), (200, 40, 90), np.uint8)
    path = saved(Image.fromarray(colours).convert("CMYK"), tmp_path / "a.jpg", quality=95)
    assert Image.open(path).mode == "CMYK"
    assert_same(decode(path), colours, tolerance=4)


def test_a_tiff_of_floats_lies_between_black_and_white(tmp_path):
    path = saved(Image.fromarray(RAMP.astype(np.float32)), tmp_path / "a.tif")
    assert Image.open(path).mode == "F"
    assert_same(decode(path), GREY)
    path = saved(Image.fromarray(RAMP.astype(np.float32) * 255), tmp_path / "b.tif")
    with pytest.raises(ValueError, match=rf"The image {path} has float pixels from 0 to 255; scale them"):
        decode(path)
