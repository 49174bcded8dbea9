"""The rendered world is a function of words and integers."""

import subprocess
import sys

import numpy as np
import pytest
from captions import describe
from pretrain_clip import pair

from hf_sharp_prompt.demo.shapes import SHAPES
from hf_sharp_prompt.demo.styles import HELD_OUT_STYLES, SEEN_STYLES, STYLES
from hf_sharp_prompt.demo.textures import TEXTURES
from hf_sharp_prompt.demo.world import COLOURS, IMAGE_SIZE, SIZES, Scene, draw_scene, render


HEART = Scene(colour="blue", texture="striped", shape="heart", backdrop="yellow", size="large", style="photo")


def scenes(count: int, styles=tuple(STYLES)) -> list[Scene]:
    return [draw_scene(np.random.default_rng((9, i)), styles) for i in range(count)]


def test_same_integers_give_the_same_bits_in_another_process():
    program = (
        "import sys; sys.argv = ['sharp-prompt'];"  # which imports the package without torch
        "from hf_sharp_prompt.demo.world import Scene, render;"
        f"sys.stdout.buffer.write(render([{HEART!r}], [(1, 2, 3)]).tobytes())"
    )
    elsewhere = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout
    assert elsewhere == render([HEART], [(1, 2, 3)]).tobytes()


def test_an_image_does_not_depend_on_its_batch():
    batch = scenes(100)
    keys = [(5, i) for i in range(100)]
    together = render(batch, keys)
    assert together.shape == (100, IMAGE_SIZE, IMAGE_SIZE, 3)
    assert together.dtype == np.uint8
    alone = np.concatenate([render([scene], [key]) for scene, key in zip(batch, keys)])
    np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize("key", [(0, 1), (1, 0), (0, 0, 1)])
def test_another_key_gives_another_image(key):
    assert (render([HEART], [(0, 0)]) != render([HEART], [key])).any()


def test_a_missing_key_is_named():
    with pytest.raises(ValueError, match="got 1 keys for 2 scenes"):
        render([HEART, HEART], [(0,)])


@pytest.mark.parametrize(
    ("field", "words"),
    [("shape", SHAPES), ("texture", TEXTURES), ("colour", COLOURS), ("style", STYLES), ("size", SIZES)],
)
def test_every_word_shows(field, words):
    """With all else the same, no two words of a kind give the same image."""
    base = {"colour": "blue", "texture": "striped", "shape": "heart", "backdrop": "white", "size": "large"}
    batch = [Scene(**{**base, "style": "photo", field: word}) for word in words]
    images = render(batch, [(3, 1)] * len(batch)).astype(int)
    for i, image in enumerate(images):
        others = np.delete(images, i, axis=0)
        assert np.abs(others - image).mean(axis=(1, 2, 3)).min() > 1


@pytest.mark.parametrize("style", STYLES)
def test_the_object_stands_out_in_every_style(style):
    batch = scenes(32, (style,))
    images = render(batch, [(4, i) for i in range(32)])
    assert (images.std(axis=(1, 2)).max(axis=1) > 3).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_centred_and_fill_the_unit_disc(shape):
    x, y = np.meshgrid(np.linspace(-1.5, 1.5, 61), np.linspace(-1.5, 1.5, 61))
    inside = SHAPES[shape](x, y) < 0
    assert 0.6 < inside.sum() * 0.05**2 < np.pi
    assert np.hypot(x, y)[inside].max() < 1.2


def test_backdrop_never_hides_the_object():
    assert all(scene.backdrop != scene.colour for scene in scenes(500))


def test_seen_and_held_out_styles_are_apart():
    assert not SEEN_STYLES.keys() & HELD_OUT_STYLES.keys()
    assert STYLES == SEEN_STYLES | HELD_OUT_STYLES


def test_pretraining_neither_shows_nor_names_a_held_out_style():
    pairs = [pair(0, index) for index in range(2000)]
    assert {scene.style for scene, _ in pairs} == SEEN_STYLES.keys()
    spoken = {word.strip(".,") for _, caption in pairs for word in caption.text.split()}
    assert not spoken & HELD_OUT_STYLES.keys()


def test_captions_tell_what_they_say_they_tell():
    for index in range(500):
        rng = np.random.default_rng(index)
        scene = draw_scene(rng, tuple(SEEN_STYLES))
        caption = describe(scene, rng)
        told = {field: word for field, word in caption.stated.items() if field != "style"}
        assert caption.text == caption.text.lower()
        assert all(word in caption.text.split() or f"{word}." in caption.text.split() for word in told.values())
        assert all(getattr(scene, field) == word for field, word in caption.stated.items())
