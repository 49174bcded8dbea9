"""The demo's tasks are ordinary data sets, the same on every machine run."""

import datasets
import numpy as np
import pytest

from hf_sharp_prompt.demo import (
    DEFAULT_TASK,
    FAMILIAR_TASKS,
    LONG_TAIL_TASK,
    TASKS,
    UNFAMILIAR_TASKS,
    load_long_tail,
    load_task,
)
from hf_sharp_prompt.demo.styles import HELD_OUT_STYLES, SEEN_STYLES
from hf_sharp_prompt.demo.tasks import IMAGES_PER_CLASS


@pytest.fixture(scope="module")
def splits() -> datasets.DatasetDict:
    return load_task(DEFAULT_TASK)


def test_there_are_enough_tasks_to_average_over():
    assert len(UNFAMILIAR_TASKS) == len(FAMILIAR_TASKS) == 8
    assert TASKS == UNFAMILIAR_TASKS | FAMILIAR_TASKS
    assert DEFAULT_TASK in UNFAMILIAR_TASKS
    assert len({task.seed for task in TASKS.values()}) == len(TASKS)
    assert len({(task.kinds, task.style) for task in TASKS.values()}) == len(TASKS)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())
def test_a_task_is_well_formed(task):
    assert TASKS[task.name] is task
    assert task.style in (SEEN_STYLES if task.name in FAMILIAR_TASKS else HELD_OUT_STYLES)
    assert task.name == "_".join([*task.kinds, task.style])
    assert task.template.count("{}") == 1
    assert task.description.endswith(".")
    assert 40 <= len(task.classes) <= 80
    assert list(task.classes) == sorted(set(task.classes))
    assert all(len(name.split()) == len(task.kinds) and name.islower() for name in task.classes)


def test_columns_are_an_image_and_a_class_label(splits):
    assert list(splits) == list(IMAGES_PER_CLASS)
    for split, rows in splits.items():
        assert isinstance(rows.features["image"], datasets.Image)
        assert isinstance(rows.features["label"], datasets.ClassLabel)
        assert rows.features["label"].names == list(TASKS[DEFAULT_TASK].classes)
        assert np.bincount(rows["label"]).tolist() == [IMAGES_PER_CLASS[split]] * len(TASKS[DEFAULT_TASK].classes)
    example = splits["test"][0]["image"]
    assert (example.size, example.mode) == ((48, 48), "RGB")


def test_splits_share_no_image(splits):
    raw = {split: rows.cast_column("image", datasets.Image(decode=False)) for split, rows in splits.items()}
    seen = [row["image"]["bytes"] for rows in raw.values() for row in rows]
    assert len(set(seen)) == len(seen)


def test_loading_twice_gives_the_same_bits(splits):
    again = load_task(DEFAULT_TASK)
    for split, rows in splits.items():
        assert rows.data.equals(again[split].data)


def test_tasks_of_the_same_kind_show_other_scenes():
    rain, tint = (TASKS[name].images("validation")[0] for name in ("colour_shape_rain", "colour_shape_tint"))
    assert not {image.tobytes() for image in rain} & {image.tobytes() for image in tint}


def test_an_unknown_task_names_its_nearest_and_all():
    with pytest.raises(ValueError, match=r"'colour_shape_train'; did you mean 'colour_shape_rain'\?") as error:
        load_task("colour_shape_train")
    assert all(name in str(error.value) for name in TASKS)


COUNTS = [6, 4, 3, 2, *[1] * 20]


@pytest.fixture(scope="module")
def long_tail() -> datasets.DatasetDict:
    return load_long_tail(COUNTS)


def test_the_long_tail_is_in_the_training_split_only(long_tail):
    """Rare classes are tested on as many images as common ones: else the tail's accuracy is noise."""
    assert list(long_tail) == ["train", "validation", "test"]
    for split, rows in long_tail.items():
        assert rows.features["label"].names == list(LONG_TAIL_TASK.classes)
        expected = COUNTS if split == "train" else [LONG_TAIL_TASK.images_per_class[split]] * len(COUNTS)
        assert np.bincount(rows["label"]).tolist() == expected


def test_a_larger_count_has_the_images_of_a_smaller_one(long_tail):
    """So that the imbalance alone changes between two runs; and loading twice gives the same bits."""
    images, labels = LONG_TAIL_TASK.images("train", per_class=8)
    more = {image.tobytes() for image in images}
    some = {np.asarray(row["image"]).tobytes() for row in long_tail["train"]}
    assert some < more
    assert len(more) == len(labels) == 8 * len(COUNTS)


def test_the_long_tail_s_images_are_in_no_other_split_or_task(long_tail):
    """It is tested on images that it was not trained on, in a style that pre-training never showed."""
    seen = [np.asarray(row["image"]).tobytes() for rows in long_tail.values() for row in rows]
    assert len(set(seen)) == len(seen)
    assert LONG_TAIL_TASK.style in HELD_OUT_STYLES
    assert LONG_TAIL_TASK.seed not in {task.seed for task in TASKS.values()}


def test_head_medium_and_tail_are_of_the_same_words():
    """With sorted names the tail would be one colour or shape, and its accuracy that word's."""
    classes = LONG_TAIL_TASK.classes
    assert len(classes) >= 20
    assert len(set(classes)) == len(classes)
    third = len(classes) // 3
    for words in LONG_TAIL_TASK.words:
        for group in (classes[:third], classes[third : 2 * third], classes[2 * third :]):
            assert {word for name in group for word in name.split()} >= set(words)


@pytest.mark.parametrize(
    ("counts", "message"),
    [([3] * 5, "24 classes, but train_counts has 5"), ([0, *[1] * 23], "would be left without training images")],
)
def test_counts_that_the_long_tail_cannot_have_are_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        load_long_tail(counts)
