"""Images with masks in every layout, and what may be wrong with them."""

import logging

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List

from hf_sharp_prompt.data.segmentation import (
    few_shot_masks,
    load_segmentation_dataset,
    segmented_classes,
    split_classes,
    value_names,
    with_classes,
)


NAMES = ["background", "cat", "dog", "cow", "hen"]
VALUES = np.zeros((8, 10), np.uint8)
VALUES[1:4, 1:5], VALUES[5:7, 2:9], VALUES[0] = 1, 2, 255


def folders(picture, mask, count=4, values=VALUES):
    for index in range(count):
        picture(f"data/images/{index}.jpg")
        mask(f"data/masks/{index}.png", values)


def test_a_folder_of_images_and_masks(tmp_path, picture, mask, caplog):
    folders(picture, mask)
    (tmp_path / "data" / "classes.txt").write_text("\n".join(NAMES))
    with caplog.at_level(logging.WARNING):
        splits = load_segmentation_dataset(str(tmp_path / "data"))
    assert {name: len(split) for name, split in splits.items()} == {"train": 2, "test": 2}
    assert "30 % of its training split is held out" in caplog.text
    assert value_names(splits) == NAMES
    assert segmented_classes(splits) == NAMES[1:]
    assert splits["train"][0]["classes"] == [1, 2]


@pytest.mark.parametrize("outer", ["split/images", "images/split"])
def test_splits_may_be_folders_inside_or_outside(outer, tmp_path, picture, mask):
    for split in ("train", "val", "test"):
        place = outer.replace("split", split)
        picture(f"data/{place}/{split}.jpg")
        mask(f"data/{place.replace('images', 'masks')}/{split}_mask.png", VALUES)
    splits = load_segmentation_dataset(str(tmp_path / "data"), class_names=NAMES)
    assert {*splits} == {"train", "validation", "test"}


def test_pascal_voc(tmp_path, picture, mask):
    """Its masks have a palette, and borders that are ignored."""
    root = "VOCdevkit/VOC2012"
    for index, split in enumerate(("train", "val")):
        picture(f"{root}/JPEGImages/{index}.jpg")
        mask(f"{root}/SegmentationClass/{index}.png", VALUES, "P")
        lists = tmp_path / root / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text(f"{index}\n")
    splits = load_segmentation_dataset(str(tmp_path))
    assert {*splits} == {"train", "test"}  # the validation split is tested on
    assert len(segmented_classes(splits)) == 20
    assert [value_names(splits)[value] for value in splits["train"][0]["classes"]] == ["aeroplane", "bicycle"]


def test_ade20k_numbers_its_classes_from_1(tmp_path, picture, mask):
    for split in ("training", "validation"):
        picture(f"ade/images/{split}/{split}.jpg")
        mask(f"ade/annotations/{split}/{split}.png", VALUES % 255)
    (tmp_path / "ade" / "objectInfo150.txt").write_text(
        "Idx\tRatio\tTrain\tVal\tStuff\tName\n1\t0.1\t1\t1\t1\twall, surface\n2\t0.1\t1\t1\t1\tbuilding;edifice\n"
    )
    splits = load_segmentation_dataset(str(tmp_path / "ade"))
    assert value_names(splits) == ["unlabelled", "wall", "building"]
    assert segmented_classes(splits) == ["wall", "building"]


@pytest.mark.parametrize("mask_column", ["mask", "label", "annotation"])
def test_a_data_set_with_columns_and_names(mask_column, tmp_path, picture, mask):
    features = Features({"image": Image(), mask_column: Image(), "classes": List(ClassLabel(names=NAMES))})
    row = {"image": str(picture("a.jpg")), mask_column: str(mask("a.png", VALUES)), "classes": [0]}
    data = Dataset.from_list([row], features)
    DatasetDict(train=data, test=Dataset.from_list([{**row, "image": str(picture("b.jpg"))}], features)).save_to_disk(
        tmp_path / "saved"
    )
    splits = load_segmentation_dataset(str(tmp_path / "saved"))
    assert splits["test"].column_names == ["image", "mask", "classes"]
    assert splits["train"][0]["classes"] == [1, 2]


def test_the_demos_backdrop_is_background():
    splits = load_segmentation_dataset("scenes_colour_shape_tint")
    assert value_names(splits)[-1] == "background"
    assert len(segmented_classes(splits)) == 12
    base, novel = split_classes(splits)
    assert len(base) == len(novel) == 6
    assert not {*base} & {*novel}


def test_an_image_of_ignored_pixels_is_left_out_and_one_of_background_stays(tmp_path, picture, mask, caplog):
    """Background is something to learn, and pixels that are ignored are nothing."""
    folders(picture, mask)
    picture("data/images/empty.jpg"), mask("data/masks/empty.png", np.full_like(VALUES, 255))
    picture("data/images/ground.jpg"), mask("data/masks/ground.png", np.zeros_like(VALUES))
    with caplog.at_level(logging.WARNING):
        splits = load_segmentation_dataset(str(tmp_path / "data"), class_names=NAMES, needs_test_split=False)
    assert len(splits["train"]) == 5
    assert "1 of 6 masks in the train split" in caplog.text
    assert splits["train"][4]["classes"] == []


def _other_size(picture, mask):
    mask("data/masks/0.png", VALUES[:5])


def _value_without_name(picture, mask):
    mask("data/masks/0.png", VALUES + (VALUES == 2) * 5)


def _no_mask(picture, mask):
    picture("data/images/alone.jpg")


def _no_image(picture, mask):
    mask("data/masks/alone.png", VALUES)


def _empty_mask(picture, mask):
    mask("data/masks/0.png", VALUES).write_bytes(b"")


def _colours(picture, mask):
    picture("data/masks/0.png")


def _all_ignored(picture, mask):
    for index in range(4):
        mask(f"data/masks/{index}.png", np.full_like(VALUES, 255))


def _black_and_white(picture, mask):
    for index in range(4):
        mask(f"data/masks/{index}.png", (VALUES == 1) * 255)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_other_size, r"The mask of .*0.png is 10 × 5 pixels and the image 10 × 8 \(width × height\)"),
        (_value_without_name, "0.png has the pixel value 7, but there are 5 names, of the values 0 to 4, and 255 is"),
        (_no_mask, "1 of the images of .* have no mask: .*alone.jpg. Name an image and its mask alike"),
        (_no_image, "1 of the masks of .* have no image: .*alone.png"),
        (_empty_mask, "0.png cannot be decoded"),
        (_colours, "0.png is a picture in colours"),
        (_all_ignored, "No mask in the train split of .* has a pixel that counts"),
        (_black_and_white, "black and white: they have the pixel values 0 and 255 alone"),
    ],
)
def test_what_is_wrong_is_said_before_training(spoil, message, tmp_path, picture, mask):
    folders(picture, mask)
    spoil(picture, mask)
    with pytest.raises(ValueError, match=message):
        load_segmentation_dataset(str(tmp_path / "data"), class_names=NAMES)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (None, "does not say how the pixel values of its masks are named; give class_names"),
        (["background", "cat", "cat", "cow", "hen"], r"several classes are named \['cat'\]"),
        (["background", "cat"], "needs at least two classes"),
        (["0", "1", "2", "3"], "numbers|codes|words"),
        (["background", "cat", " ", "cow"], "no name"),
    ],
)
def test_names_must_be_those_of_classes(names, message, tmp_path, picture, mask):
    folders(picture, mask)
    with pytest.raises(ValueError, match=message):
        load_segmentation_dataset(str(tmp_path / "data"), class_names=names)


def test_a_table_without_a_column_of_masks_is_refused(tmp_path, picture):
    Dataset.from_list([{"image": str(picture("a.jpg"))}], Features({"image": Image()})).save_to_disk(
        tmp_path / "saved"
    )
    with pytest.raises(ValueError, match="has no column of masks; name the one to use with mask_column"):
        load_segmentation_dataset(str(tmp_path / "saved"), class_names=NAMES)


def test_a_folder_without_masks_is_refused(tmp_path, picture):
    picture("data/cats/a.jpg")
    with pytest.raises(ValueError, match=r"holds no images with masks that are known.*VOC.*ADE20K"):
        load_segmentation_dataset(str(tmp_path / "data"))


@pytest.fixture
def shown():
    """Images that show classes, without pictures."""
    rows = [{"classes": values} for values in ([1], [1, 2], [3], [3, 4], [], [2])]
    return DatasetDict(train=Dataset.from_list(rows, Features({"classes": List(ClassLabel(names=NAMES))})))


def test_halves_and_shots(shown):
    base, novel = split_classes(shown)
    assert (base, novel) == (["cat", "dog"], ["cow", "hen"])
    assert split_classes(shown, ["hen", "cat"]) == (["hen", "cat"], ["dog", "cow"])
    assert split_classes(shown, novel=["hen", "cat"]) == (["dog", "cow"], ["hen", "cat"])
    assert len(with_classes(shown["train"], base)) == 3
    drawn = few_shot_masks(shown["train"], base, 1, seed=0)
    assert all(any(value in values for values in drawn["classes"]) for value in (1, 2))
    assert few_shot_masks(shown["train"], base, 1, seed=0)["classes"] == drawn["classes"]
    assert len(few_shot_masks(shown["train"], base, 99, seed=0)) == 3


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (["cta", "dog"], "There is no class 'cta' to be a base class; did you mean 'cat'"),
        (["cat", "cat"], "name 'cat' twice"),
        (["cat", "dog", "cow"], r"There are 1 novel classes \(hen\) of 4; to compare them, a half needs at least two"),
        (["cat"], "There are 1 base classes"),
        (["background", "cat"], "There is no class 'background'"),
    ],
)
def test_halves_that_make_no_sense_are_refused(shown, base, message):
    with pytest.raises(ValueError, match=message):
        split_classes(shown, base)


def test_a_class_in_both_halves_is_refused(shown):
    with pytest.raises(ValueError, match="The class 'dog' is in both halves, base and novel; keep it in one"):
        split_classes(shown, ["cat", "dog"], ["dog", "cow"])


def test_a_class_that_no_image_shows_has_no_shots(shown):
    without = DatasetDict(train=shown["train"].select([0, 2]))
    with pytest.raises(ValueError, match="No training image shows the class 'dog'"):
        few_shot_masks(without["train"], ["cat", "dog"], 1, seed=0)
    with pytest.raises(ValueError, match="shots must be at least 1"):
        few_shot_masks(shown["train"], ["cat"], 0, seed=0)


def test_a_loaded_data_set_can_be_saved_and_loaded_again(tmp_path, picture, mask):
    folders(picture, mask)
    splits = load_segmentation_dataset(str(tmp_path / "data"), class_names=NAMES)
    splits.save_to_disk(tmp_path / "saved")
    again = load_segmentation_dataset(str(tmp_path / "saved"))
    assert again["test"][:]["classes"] == splits["test"][:]["classes"]
    assert isinstance(again["train"].features["mask"], datasets.Image)
