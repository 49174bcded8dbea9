"""What is drawn on images: boxes, classes of pixels, and label maps."""

import numpy as np
import pytest
from PIL import Image

from hf_sharp_prompt.data.segmentation import read_mask
from hf_sharp_prompt.drawing import beside, colours_of, draw_boxes, draw_masks, label_map


RED, BLUE = (255, 0, 0), (0, 0, 255)


def test_colours_of_any_number_of_classes_differ():
    for count in (1, 12, 200):
        colours = colours_of(count)
        assert len({*colours}) == count
        assert colours == colours_of(250)[:count]


def test_a_box_is_drawn_where_it_is_and_cut_at_the_edges():
    image = Image.new("RGB", (400, 300))
    boxes = [
        ((100, 80, 200, 160), "a \x1b cat", RED),
        ((350, 250, 900, 900), "dog", BLUE),
        ((500, 0, 600, 9), "", RED),
    ]
    drawn = np.asarray(draw_boxes(image, boxes))
    assert tuple(drawn[120, 100]) == tuple(drawn[160, 150]) == RED
    assert tuple(drawn[280, 350]) == tuple(drawn[299, 380]) == BLUE
    assert not drawn[120, 150].any(), "the inside is seen"
    assert not drawn[20:60, 300:].any(), "a box outside the image is not drawn"


def test_classes_of_pixels_are_seen_through_and_named_beside():
    image = Image.new("RGB", (400, 300), (100, 100, 100))
    values = np.full((300, 400), -1)
    values[100:200, 100:200], values[:50] = 1, 0
    drawn = np.asarray(draw_masks(image, values, ["sky", "cat", "dog"], [BLUE, RED, BLUE], unseen={0}))
    assert tuple(drawn[150, 150]) == (177, 50, 50)
    assert tuple(drawn[10, 10]) == tuple(drawn[250, 250]) == (100, 100, 100)
    legend = drawn[:, 400:]
    assert (legend == RED).all(axis=-1).any()
    assert not (legend == BLUE).all(axis=-1).any(), "only classes that there are"
    nothing = draw_masks(image, np.full((300, 400), -100), ["sky"], [BLUE])
    assert nothing.size == image.size


@pytest.mark.parametrize("count", [3, 300])
def test_label_maps_are_read_back(count, tmp_path):
    """With more than 256 classes, values need 16 bits."""
    values = np.arange(12).reshape(3, 4) * (count // 12)
    label_map(values, colours_of(count)).save(tmp_path / "labels.png")
    assert (read_mask(tmp_path / "labels.png") == values).all()


def test_columns_are_beside_each_other_with_headings():
    one, two = Image.new("RGB", (400, 300), RED), Image.new("RGB", (420, 200), BLUE)
    grid = np.asarray(beside({"truth": [one, one], "predicted": [two, two]}))
    top = grid.shape[0] - 300 - 8 - 300
    assert tuple(grid[top + 100, 100]) == tuple(grid[top + 408, 100]) == RED
    assert tuple(grid[top + 100, 500]) == tuple(grid[top + 408, 500]) == BLUE
    assert grid.shape[1] == 400 + 8 + 420
