"""Scenes of several objects are a function of words and integers, and say exactly where each object is."""

import numpy as np
import pytest
from scene_batches import draw_captioned

from hf_sharp_prompt.demo.scenes import (
    BACKDROP,
    MOST_OBJECTS,
    OBJECT_SIZES,
    SCENE_SIZE,
    draw_objects,
    find_boxes,
    render_objects,
)
from hf_sharp_prompt.demo.styles import HELD_OUT_STYLES, SEEN_STYLES, STYLES
from hf_sharp_prompt.demo.world import BACKDROPS, SIZES, Scene, draw_scene, render


HEART = Scene(colour="blue", texture="plain", shape="heart", backdrop="yellow", size="large", style="photo")
STAR = Scene(colour="red", texture="plain", shape="star", backdrop="yellow", size="small", style="photo")


def scenes(count: int, styles=tuple(STYLES)) -> list[tuple[Scene, ...]]:
    return [draw_objects(np.random.default_rng((9, i)), styles, [{}] * (1 + i % MOST_OBJECTS)) for i in range(count)]


def keys(count: int) -> list[tuple[int, int]]:
    return [(8, i) for i in range(count)]


def test_scenes_and_single_objects_are_frozen():
    """Else the shipped models, and all published figures, would be of another world than the one that is rendered."""
    single = render(
        [draw_scene(np.random.default_rng((9, i)), tuple(STYLES)) for i in range(150)], [(5, i) for i in range(150)]
    )
    images, visible = render_objects(scenes(60), keys(60))
    # Means, since the last bit of a cosine depends on the processor.
    np.testing.assert_allclose(single.mean(axis=(0, 1, 2)), [126.2, 119.292, 111.488], atol=2e-3)
    np.testing.assert_allclose(images.mean(axis=(0, 1, 2)), [121.709, 119.218, 111.972], atol=2e-3)
    assert [(visible == number).sum() for number in range(MOST_OBJECTS)] == pytest.approx(
        [15366, 11072, 6315, 3094], abs=2
    )


def test_a_scene_does_not_depend_on_its_batch():
    images, visible = render_objects(scenes(12), keys(12))
    assert images.shape == (12, SCENE_SIZE, SCENE_SIZE, 3)
    assert images.dtype == np.uint8
    for number, (objects, key) in enumerate(zip(scenes(12), keys(12))):
        alone = render_objects([objects], [key])
        np.testing.assert_array_equal(alone[0][0], images[number])
        np.testing.assert_array_equal(alone[1][0], visible[number])


def test_what_is_visible_is_where_the_colour_is():
    """The mask of a plain red star on yellow holds the red pixels, and no others."""
    images, visible = render_objects([(STAR,)], [(0, 0)])
    red = images[0, ..., 0].astype(int) - images[0, ..., 1] > 70
    share = (red & (visible[0] == 0)).sum() / (red | (visible[0] == 0)).sum()
    assert share > 0.9


def test_every_object_of_a_scene_is_seen_and_there_are_no_others():
    batch = scenes(80)
    _, visible = render_objects(batch, keys(80))
    for objects, numbers in zip(batch, visible):
        assert set(np.unique(numbers)) == {BACKDROP, *range(len(objects))}


def test_objects_cover_several_patches_and_hide_little_of_each_other():
    """With patches of 8 × 8 pixels, an object that covers none in the main would have no feature of its own."""
    batch = scenes(80)
    _, visible = render_objects(batch, keys(80))
    alone = render_objects([(objects[0],) for objects in batch], keys(80))[1]
    shares = [(numbers == 0).sum() / (own == 0).sum() for numbers, own in zip(visible, alone)]
    assert min(shares) > 0.7
    areas = [(numbers == number).sum() for numbers, o in zip(visible, batch) for number in range(len(o))]
    assert min(areas) > 64


def test_a_later_object_hides_an_earlier_one():
    """Where their discs meet, the pixels belong to one of them alone, and the earlier one loses."""
    crowd = (HEART,) * MOST_OBJECTS
    both = render_objects([crowd] * 60, keys(60))[1]
    first = render_objects([(HEART,)] * 60, keys(60))[1]
    hidden = (first == 0) & (both > 0)
    assert hidden.any()
    assert ((first == 0) <= ((both == 0) | hidden)).all()


def test_boxes_are_the_extents_of_what_is_visible():
    visible = np.full((6, 8), BACKDROP)
    visible[1:4, 2:7] = 0
    visible[3:6, 6:8] = 1
    assert find_boxes(visible, 3).tolist() == [[2, 1, 5, 3], [6, 3, 2, 3], [0, 0, 0, 0]]


def test_objects_share_style_and_backdrop_and_stand_out_from_it():
    for objects in scenes(80):
        assert len({each.style for each in objects}) == len({each.backdrop for each in objects}) == 1
        assert all(each.backdrop in BACKDROPS[each.colour] for each in objects)
    assert OBJECT_SIZES.keys() == SIZES.keys()


@pytest.mark.parametrize(
    ("objects", "number_of_keys", "message"),
    [
        ((HEART,), 2, "got 2 keys for 1 scenes"),
        ((), 1, "has 0 objects; it must have 1 to 4"),
        ((HEART,) * 5, 1, "has 5 objects"),
    ],
)
def test_scenes_that_cannot_be_drawn_are_refused(objects, number_of_keys, message):
    with pytest.raises(ValueError, match=message):
        render_objects([objects], keys(number_of_keys))


def test_pretraining_neither_shows_nor_names_a_held_out_style():
    captioned = [draw_captioned(0, index) for index in range(600)]
    assert {each.style for objects, _ in captioned for each in objects} == SEEN_STYLES.keys()
    spoken = {word.strip(".,") for _, captions in captioned for each in captions for word in each.text.split()}
    assert not spoken & HELD_OUT_STYLES.keys()
    assert {len(objects) for objects, _ in captioned} == set(range(1, MOST_OBJECTS + 1))
