"""Detection data: layouts, boxes of every kind, categories and their halves, few shots, and batches."""

import json
import logging
import random
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from PIL import Image
from transformers import Owlv2ImageProcessor, OwlViTImageProcessor

from hf_sharp_prompt.data.detection import (
    DetectionCollator,
    base_and_novel_categories,
    category_names,
    few_shot_objects,
    load_detection_dataset,
    only_categories,
)
from hf_sharp_prompt.data.detection.categories import without_crowds
from hf_sharp_prompt.data.detection.rows import objects_of


WIDTH, HEIGHT = 40, 20
NAMES = ["cat", "dog", "bird"]
BOX = [10.0, 5.0, 20.0, 10.0]  # left, top, width, height


def picture(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 30, 30)).save(path)
    return path


def annotations(boxes=(BOX,), categories=(7,), names=NAMES, images=2, **changes):
    """COCO's JSON: category ids with gaps, the boxes all in the first image."""
    return {
        "images": [{"id": 10 + i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in range(images)],
        "annotations": [
            {"id": n, "image_id": 10, "category_id": category, "bbox": list(box), "iscrowd": int(n == 5)}
            for n, (box, category) in enumerate(zip(boxes, categories, strict=True))
        ],
        "categories": [{"id": number, "name": name} for number, name in zip((90, 7, 12), names, strict=True)],
    } | changes


def coco(folder: Path, content=None, split: str = "train") -> str:
    content = annotations() if content is None else content
    for each in content["images"]:
        picture(folder / f"{split}2017" / each["file_name"])
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
    return str(folder)


def load(source: str, **options):
    return load_detection_dataset(source, needs_test_split=False, **options)


def saved(folder: Path, rows, category, columns=("bbox", "category")) -> str:
    """A data set as the Hub has them, saved to disk: for each image its boxes and categories."""
    box, label = columns
    features = Features(
        {"image": datasets.Image(), "objects": {box: List(List(Value("float32"))), label: List(category)}}
    )
    images = [str(picture(folder / f"{n}.png")) for n in range(len(rows))]
    objects = [{box: boxes, label: labels} for boxes, labels in rows]
    data = Dataset.from_dict({"image": images, "objects": objects}, features=features)
    DatasetDict(train=data).save_to_disk(folder / "saved")
    return str(folder / "saved")


class TestLayouts:
    def test_cocos_ids_become_labels_in_their_order(self, tmp_path):
        """Ids have gaps: 90, 7 and 12 are labels 2, 0 and 1."""
        boxes = [BOX, [0, 0, 5, 5], [1, 1, 4, 4]]
        train = load(coco(tmp_path, annotations(boxes, (7, 90, 12))))["train"]
        assert category_names(train) == ["dog", "bird", "cat"]
        assert objects_of(train)[0] == {"bbox": boxes, "category": [0, 2, 1], "crowd": [False] * 3}
        assert objects_of(train)[1]["bbox"] == []
        assert train[0]["image"]["path"].endswith("train2017/0.png")

    def test_splits_are_found_by_the_names_of_files(self, tmp_path):
        coco(tmp_path, split="train")
        splits = load_detection_dataset(coco(tmp_path, annotations(images=1), split="val"))
        assert {name: len(split) for name, split in splits.items()} == {"train": 2, "test": 1}

    def test_a_folder_for_each_split(self, tmp_path):
        for split in ("train", "valid", "test"):
            picture(tmp_path / split / "0.png")
            content = annotations(images=1)
            (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(content))
        assert [*load(str(tmp_path))] == ["test", "train", "validation"]

    def test_metadata_beside_the_images(self, tmp_path):
        picture(tmp_path / "train" / "0.png")
        row = {"file_name": "0.png", "objects": {"bbox": [BOX], "categories": ["dog"]}}
        other = {"file_name": "1.png", "objects": {"bbox": [BOX, BOX], "categories": ["cat", "dog"]}}
        picture(tmp_path / "train" / "1.png")
        (tmp_path / "train" / "metadata.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(other)}\n")
        train = load(str(tmp_path))["train"]
        assert category_names(train) == ["cat", "dog"]
        assert [each["category"] for each in objects_of(train)] == [[1], [0, 1]]

    @pytest.mark.parametrize(
        ("category", "written", "class_names", "names"),
        [
            (ClassLabel(names=NAMES), [0, 2], None, NAMES),
            (Value("int64"), [0, 2], ["a", "b", "c"], ["a", "b", "c"]),
            (Value("string"), ["bird", "dog"], None, ["bird", "dog"]),
        ],
    )
    def test_a_column_of_objects_as_the_hub_has_it(self, tmp_path, category, written, class_names, names):
        source = saved(tmp_path, [([BOX, BOX], written), ([BOX], written[:1])], category)
        train = load(source, class_names=class_names)["train"]
        assert category_names(train) == names
        assert [each["category"] for each in objects_of(train)] == [[0, len(names) - 1], [0]]
        assert (train[0]["width"], train[0]["height"]) == (WIDTH, HEIGHT)

    def test_numbers_with_gaps_take_their_names_from_a_dictionary(self, tmp_path):
        source = saved(tmp_path, [([BOX, BOX], [3, 90])], Value("int64"))
        train = load(source, class_names={"90": "dog", "3": "cat"})["train"]
        assert category_names(train) == ["cat", "dog"]
        assert objects_of(train)[0]["category"] == [0, 1]

    def test_the_demos_scenes(self):
        splits = load_detection_dataset("scenes_colour_shape_tint")
        assert [*splits] == ["train", "validation", "test"]
        assert category_names(splits["test"])[0] == "blue heart"


FORMATS = {"xywh": BOX, "xyxy": [10.0, 5.0, 30.0, 15.0], "cxcywh": [20.0, 10.0, 20.0, 10.0]}


class TestBoxes:
    @pytest.mark.parametrize("box_format", FORMATS)
    def test_every_format_is_read(self, tmp_path, box_format):
        source = coco(tmp_path, annotations([FORMATS[box_format]]))
        assert objects_of(load(source, box_format=box_format)["train"])[0]["bbox"] == [BOX]

    @pytest.mark.parametrize(
        ("written", "read", "box"),
        [
            ("xyxy", "xywh", [30.0, 5.0, 39.0, 15.0]),
            ("xywh", "xyxy", [30.0, 5.0, 5.0, 10.0]),
            ("cxcywh", "xywh", [25.0, 12.0, 20.0, 14.0]),
        ],
    )
    def test_boxes_in_another_format_are_told_by_the_one_that_fits(self, tmp_path, written, read, box):
        with pytest.raises(ValueError, match=f"box_format='{written}'"):
            load(coco(tmp_path, annotations([box])), box_format=read)

    @pytest.mark.parametrize(
        ("box", "words"),
        [
            ([float("nan"), 0, 1, 1], "is not finite"),
            ([100.0, 100.0, 5.0, 5.0], "is outside its image as left, top, width, height"),
            ([30.0, 15.0, -50.0, -50.0], "has a negative size"),
            ([0.1, 0.1, 0.5, 0.5], "shares of the image"),
            ([1, 2, 3], "is not four numbers"),
            ([1, 2, 3, "4"], "is not four numbers"),
            ([1, 2, 3, None], "is not four numbers"),
        ],
    )
    def test_wrong_boxes_are_refused_with_the_image(self, tmp_path, box, words):
        with pytest.raises(ValueError, match=words):
            load(coco(tmp_path, annotations([box])))

    def test_an_unknown_format_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="box_format must be one of xywh, xyxy, cxcywh, got 'yxyx'"):
            load(coco(tmp_path), box_format="yxyx")

    def test_boxes_over_the_edge_are_cut_and_those_without_area_left_out(self, tmp_path, caplog):
        boxes = [[30.0, 5.0, 40.0, 10.0], [5.0, 5.0, 0.0, 4.0], BOX]
        with caplog.at_level(logging.WARNING):
            train = load(coco(tmp_path, annotations(boxes, (7, 7, 12))))["train"]
        assert objects_of(train)[0] == {"bbox": [[30, 5, 10, 10], BOX], "category": [0, 1], "crowd": [False] * 2}
        assert "1 of 3 boxes of the train split" in caplog.text
        assert "stand over the edges" in caplog.text
        assert "have no area and are left out" in caplog.text

    def test_boxes_and_categories_must_be_as_many(self, tmp_path):
        source = saved(tmp_path, [([BOX, BOX], [0])], ClassLabel(names=NAMES))
        with pytest.raises(ValueError, match="2 boxes and 1 categories in image 0 of the train split"):
            load(source)


class TestWrongFiles:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]}, "several categories with the name"),
            ({"categories": [{"id": 7, "name": "cat"}, {"id": 7, "name": "dog"}]}, "several categories with the id 7"),
            ({"categories": [{"id": 1, "name": "cat"}]}, "of category 7, which the file has not"),
            ({"categories": [{"id": 7, "name": "cat"}]}, "at least two are needed"),
            ({"annotations": None}, "has no list 'annotations'"),
            ({"annotations": [{"id": 0, "image_id": 3, "category_id": 7, "bbox": BOX}]}, "of image 3, which the file"),
            ({"annotations": [{"id": 0, "image_id": 10, "category_id": 7}]}, "has no bbox"),
        ],
    )
    def test_annotations_that_contradict_themselves(self, tmp_path, changes, words):
        with pytest.raises(ValueError, match=words):
            load(coco(tmp_path, annotations() | changes))

    def test_missing_images_are_named(self, tmp_path):
        source = coco(tmp_path)
        (tmp_path / "train2017" / "1.png").unlink()
        with pytest.raises(ValueError, match=r"1 of 2 image files .* do not exist, such as 1.png"):
            load(source)

    def test_a_file_that_is_no_json(self, tmp_path):
        source = coco(tmp_path)
        (tmp_path / "annotations" / "instances_train2017.json").write_text('{"images": [')
        with pytest.raises(ValueError, match="is not JSON"):
            load(source)

    def test_splits_with_other_categories(self, tmp_path):
        coco(tmp_path)
        with pytest.raises(ValueError, match="has other categories than"):
            load(coco(tmp_path, annotations(names=["cat", "dog", "cow"]), split="val"))

    def test_data_without_objects(self, tmp_path):
        data = Dataset.from_dict({"image": [str(picture(tmp_path / "0.png"))], "label": [0]})
        DatasetDict(train=data).save_to_disk(tmp_path / "saved")
        with pytest.raises(ValueError, match="has no column 'objects'; its columns are: image"):
            load(str(tmp_path / "saved"))

    @pytest.mark.parametrize(
        ("category", "number", "words"),
        [
            (Value("int64"), 1, "numbers without names"),
            (ClassLabel(names=NAMES), None, "has the category None"),
            (Value("string"), None, "numbers without names"),
        ],
    )
    def test_categories_without_names(self, tmp_path, category, number, words):
        with pytest.raises(ValueError, match=words):
            load(saved(tmp_path, [([BOX], [number])], category))

    def test_a_number_beyond_the_names(self, tmp_path):
        source = saved(tmp_path, [([BOX], [5])], Value("int64"))
        with pytest.raises(ValueError, match="has the category 5, which is none of the 3"):
            load(source, class_names=NAMES)


class TestCategories:
    def test_the_first_half_is_base(self):
        assert base_and_novel_categories(["a", "b", "c", "d", "e"]) == ([0, 1, 2], [3, 4])

    def test_named_halves(self):
        names = ["a", "b", "c", "d", "e"]
        assert base_and_novel_categories(names, novel=["d", "b"]) == ([0, 2, 4], [1, 3])
        assert base_and_novel_categories(names, ["a", "b"], ["e", "d"]) == ([0, 1], [3, 4])

    @pytest.mark.parametrize(
        ("base", "novel", "words"),
        [
            (["a", "b"], ["b", "c"], "b is base and novel at once"),
            (["a", "z"], None, "base categories have 'z', which the data has not"),
            (["a", "a", "b"], None, "a more than once"),
            (["a", "b", "c"], None, "1 novel categories of 4"),
            (["a"], None, "1 base categories of 4"),
        ],
    )
    def test_wrong_halves_are_refused(self, base, novel, words):
        with pytest.raises(ValueError, match=words):
            base_and_novel_categories(["a", "b", "c", "d"], base, novel)

    def test_only_some_categories_are_kept_and_relabelled(self, tmp_path):
        boxes = [BOX, [0, 0, 5, 5], [1, 1, 4, 4]]
        train = load(coco(tmp_path, annotations(boxes, (7, 90, 12))))["train"]
        kept = only_categories(train, [2, 0])
        assert category_names(kept) == ["cat", "dog"]
        assert objects_of(kept)[0]["category"] == [1, 0]
        assert len(kept) == 2
        assert len(only_categories(train, [2], keep_empty=False)) == 1

    def test_shots_show_each_category_as_often_and_keep_all_boxes(self):
        train = load_detection_dataset("scenes_colour_shape_tint")["train"]
        drawn = few_shot_objects(train, 4, seed=1)
        shown = [{*each["category"]} for each in objects_of(drawn)]
        assert all(sum(label in each for each in shown) >= 4 for label in range(12))
        assert len(drawn) <= 12 * 4
        assert drawn["image"][:] == few_shot_objects(train, 4, seed=1)["image"][:]
        assert drawn["image"][:] != few_shot_objects(train, 4, seed=2)["image"][:]
        every = {image["bytes"]: each for image, each in zip(train["image"][:], objects_of(train), strict=True)}
        assert all(every[i["bytes"]] == o for i, o in zip(drawn["image"][:], objects_of(drawn), strict=True))

    def test_categories_with_fewer_images_are_told(self, tmp_path, caplog):
        train = load(coco(tmp_path, annotations([BOX], (7,))))["train"]
        assert len(few_shot_objects(train, 2, seed=0)) == 1
        assert "bird (0), cat (0)" in caplog.text
        assert "dog (1)" in caplog.text

    def test_crowds_are_not_learned_from(self, tmp_path):
        boxes = [[n, 0, 5, 5] for n in range(6)]  # the sixth is a crowd
        train = load(coco(tmp_path, annotations(boxes, (7,) * 6)))["train"]
        assert objects_of(train)[0]["crowd"] == [False] * 5 + [True]
        assert len(objects_of(without_crowds(train))[0]["bbox"]) == 5


class TestBatches:
    def rows(self, tmp_path):
        boxes = [BOX, [0.0, 0.0, 10.0, 20.0]]
        return load(coco(tmp_path, annotations(boxes, (7, 90))))["train"]

    def test_boxes_are_shares_of_what_the_model_sees(self, tmp_path):
        batch = DetectionCollator(OwlViTImageProcessor(size={"height": 48, "width": 48}))(list(self.rows(tmp_path)))
        assert batch["pixel_values"].shape == (2, 3, 48, 48)
        assert batch["labels"].tolist() == [[0, 2], [-1, -100]], "an image without objects is background"
        torch.testing.assert_close(batch["boxes"][0], torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.125, 0.5, 0.25, 1.0]]))

    def test_a_padded_image_fills_a_part_of_it(self, tmp_path):
        """OWLv2 pads to a square at the bottom: the height of 20 is half of it."""
        batch = DetectionCollator(Owlv2ImageProcessor(size={"height": 48, "width": 48}))(list(self.rows(tmp_path)))
        torch.testing.assert_close(batch["boxes"][0], torch.tensor([[0.5, 0.25, 0.5, 0.25], [0.125, 0.25, 0.25, 0.5]]))

    def test_a_processor_that_cuts_images_is_refused(self):
        with pytest.raises(ValueError, match="cuts images at their edges"):
            DetectionCollator(OwlViTImageProcessor(do_center_crop=True))


def test_random_boxes_come_back_from_every_format(tmp_path):
    """Whatever valid boxes there are, all three formats read to the same ones."""
    rng, found = random.Random(0), []
    corners = [[rng.uniform(0, 20), rng.uniform(0, 10), rng.uniform(21, 40), rng.uniform(11, 20)] for _ in range(50)]
    written = {
        "xyxy": corners,
        "xywh": [[a, b, c - a, d - b] for a, b, c, d in corners],
        "cxcywh": [[(a + c) / 2, (b + d) / 2, c - a, d - b] for a, b, c, d in corners],
    }
    for name, boxes in written.items():
        source = coco(tmp_path / name, annotations(boxes, (7,) * 50))
        found.append(np.array(objects_of(load(source, box_format=name)["train"])[0]["bbox"]))
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    np.testing.assert_allclose(found[0], found[2], atol=1e-5)
