"""The scene tasks are ordinary data sets for detection and segmentation, the same on every machine run."""

from dataclasses import replace

import datasets
import numpy as np
import pytest

from hf_sharp_prompt.demo import DEFAULT_SCENE_TASK, SCENE_TASKS, TASKS, load_scene_task
from hf_sharp_prompt.demo.scene_tasks import IGNORED, OBJECTS_PER_CLASS
from hf_sharp_prompt.demo.styles import HELD_OUT_STYLES


CLASSES = SCENE_TASKS[DEFAULT_SCENE_TASK].classes


@pytest.fixture(scope="module")
def splits() -> datasets.DatasetDict:
    return load_scene_task(DEFAULT_SCENE_TASK)


@pytest.mark.parametrize("task", SCENE_TASKS.values(), ids=SCENE_TASKS.keys())
def test_a_task_is_well_formed(task):
    assert SCENE_TASKS[task.name] is task
    assert task.name not in TASKS
    assert task.name == "_".join(["scenes", *task.kinds, task.style])
    assert task.style in HELD_OUT_STYLES
    assert task.template.count("{}") == 1
    assert task.description.endswith(".")
    assert list(task.classes) == sorted(set(task.classes))


def test_tasks_are_several_in_other_styles():
    assert len({task.style for task in SCENE_TASKS.values()}) == len(SCENE_TASKS) >= 2
    assert len({task.seed for task in SCENE_TASKS.values()}) == len(SCENE_TASKS)


@pytest.mark.parametrize("task", SCENE_TASKS.values(), ids=SCENE_TASKS.keys())
def test_base_and_novel_halves_are_equally_large_and_share_shapes(task):
    """Novel classes are new combinations: in each half there is every shape, and no word of the first kind in both."""
    half = len(task.classes) // 2
    base, novel = ([name.split() for name in names] for names in (task.classes[:half], task.classes[half:]))
    assert len(base) == len(novel)
    assert {shape for _, shape in base} == {shape for _, shape in novel}
    assert not {word for word, _ in base} & {word for word, _ in novel}


def test_columns_are_those_of_detection_and_segmentation_data_sets(splits):
    assert list(splits) == list(OBJECTS_PER_CLASS)
    for split, rows in splits.items():
        assert rows.column_names == ["image", "objects", "mask"]
        assert isinstance(rows.features["image"], datasets.Image)
        assert isinstance(rows.features["mask"], datasets.Image)
        assert rows.features["objects"]["category"].feature.names == list(CLASSES)
        labels = [label for objects in rows["objects"] for label in objects["category"]]
        assert np.bincount(labels).tolist() == [OBJECTS_PER_CLASS[split]] * len(CLASSES)
    row = splits["test"][0]
    assert (row["image"].size, row["image"].mode) == ((72, 72), "RGB")
    assert (row["mask"].size, row["mask"].mode) == ((72, 72), "L")


def test_boxes_areas_and_masks_agree(splits):
    """A box around a class's only object of an image is the extent of its pixels in the mask."""
    checked = 0
    for row in splits["validation"]:
        mask, objects = np.asarray(row["mask"]), row["objects"]
        assert set(np.unique(mask)) - {IGNORED} == set(objects["category"])
        for label, box, area in zip(objects["category"], objects["bbox"], objects["area"]):
            if objects["category"].count(label) == 1:
                rows, columns = np.nonzero(mask == label)
                left, top = columns.min(), rows.min()
                assert box == [left, top, columns.max() + 1 - left, rows.max() + 1 - top]
                assert area == len(rows)
                checked += 1
        assert sum(objects["area"]) == (mask != IGNORED).sum()
    assert checked > 100


def test_splits_share_no_image(splits):
    seen = [np.asarray(row["image"]).tobytes() for rows in splits.values() for row in rows]
    assert len(set(seen)) == len(seen)


def test_loading_twice_gives_the_same_bits():
    few = replace(SCENE_TASKS[DEFAULT_SCENE_TASK], objects_per_class={"train": 2, "test": 1})
    first, second = few.load(), few.load()
    for split, rows in first.items():
        assert rows.data.equals(second[split].data)


def test_an_unknown_task_names_its_nearest_and_all():
    with pytest.raises(ValueError, match=r"'scenes_colour_shape_tin'; did you mean 'scenes_colour_shape_tint'\?") as e:
        load_scene_task("scenes_colour_shape_tin")
    assert all(name in str(e.value) for name in SCENE_TASKS)
