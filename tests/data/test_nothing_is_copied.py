"""Images that are stored in a data set are not copied when labels are read, named, numbered anew and split."""

import io

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as PILImage

from hf_sharp_prompt.compat.datasets import cast_column, column_of, replace_column, stored_files
from hf_sharp_prompt.data import base_to_novel, few_shot, load_image_dataset


NAMES = ["ant", "bee", "cat", "dog"]
CLASSES = ClassLabel(names=NAMES)


def picture(value: int) -> dict:
    encoded = io.BytesIO()
    PILImage.new("RGB", (4, 4), (value, 0, 0)).save(encoded, "PNG")
    return {"bytes": encoded.getvalue(), "path": f"{value}.png"}


@pytest.mark.parametrize(
    ("labels", "feature", "class_names", "splits"),
    [
        (range(4), CLASSES, None, ("train", "test")),
        (range(4), CLASSES, ["an ant", "a bee", "a cat", "a dog"], ("train", "validation")),
        (NAMES, Value("string"), None, ("train",)),
        (range(4), Value("int32"), NAMES, ("train", "test")),
        ([0.0, 1.0, 2.0, 3.0], Value("float32"), NAMES, ("train", "test")),
    ],
    ids=["named", "renamed", "strings", "numbers", "floats"],
)
def test_loading_and_splitting_copies_no_image(labels, feature, class_names, splits, tmp_path, monkeypatch):
    rows = {"image": [picture(value) for value in range(40)], "label": list(labels) * 10}
    made = Dataset.from_dict(rows, Features(image=Image(), label=feature))
    DatasetDict({name: made.select(range(number, 40)) for number, name in enumerate(splits)}).save_to_disk(tmp_path)
    for name in ("map", "flatten_indices"):
        monkeypatch.setattr(Dataset, name, lambda *args, **kwargs: pytest.fail("All columns are copied."))
    base, novel = base_to_novel(load_image_dataset(str(tmp_path), class_names=class_names))
    names = class_names or NAMES
    for part, own in ((few_shot(base, 2, seed=1), names[:2]), (novel, names[2:])):
        for split in part.values():
            assert split.features["label"].names == own
            for row in split:
                value = PILImage.open(io.BytesIO(row["image"]["bytes"])).getpixel((0, 0))[0]
                assert own[row["label"]] == names[value % 4]


@pytest.mark.parametrize("rows", [None, [3, 1, 2], [2, 2, 0], []], ids=["all", "some", "twice", "none"])
@pytest.mark.parametrize(
    ("values", "feature"),
    [
        ([5, None, 7], Value("int64")),
        (np.array([0, 1, 1]), ClassLabel(names=["x", "y"])),
        ([[{"area": 1.5}], [], [{"area": float("nan")}]], [{"area": Value("float32")}]),
        ([{"bytes": b"x", "path": None}, None, {"bytes": None, "path": "y"}], Image(decode=False)),
    ],
    ids=["numbers", "labels", "objects", "images"],
)
def test_a_column_is_replaced_as_by_removing_and_adding_it(rows, values, feature):
    data = Dataset.from_dict({"label": ["a", "b", "c", "d"], "image": [b"0", b"1", b"2", b"3"]})
    data = data if rows is None else data.select(rows)
    column = (list(values) * 2)[: len(data)]
    expected = data.remove_columns("label").add_column("label", column, feature=feature)
    replaced = replace_column(data, "label", column, feature)
    assert replaced.features == expected.features
    assert repr(replaced[:]) == repr(expected[:])
    assert replaced._fingerprint not in (
        data._fingerprint,
        replace_column(data, "image", column, feature)._fingerprint,
    )


def test_a_cast_that_loses_a_label_is_an_error():
    data = Dataset.from_dict({"label": ["a", "b", "c"]}).select([0, 2])
    assert cast_column(data, "label", ClassLabel(names=["a", "c"]))["label"][:] == [0, 1]
    with pytest.raises(ValueError, match="Invalid string class label c"):
        cast_column(data, "label", ClassLabel(names=["a", "b"]))


@pytest.mark.parametrize("rows", [None, range(1, 4), [3, 0, 0]])
def test_where_images_are_stored_is_told_row_by_row(rows):
    images = [picture(0), None, {"bytes": None, "path": "a.png"}, {"bytes": b"x", "path": None}]
    data = Dataset.from_dict({"image": images}, Features(image=Image(decode=False)))
    data = data if rows is None else data.select(rows)
    has_bytes, paths = stored_files(data, "image")
    shown = [row or {"bytes": None, "path": None} for row in data["image"]]
    assert has_bytes.tolist() == [image["bytes"] is not None for image in shown]
    assert paths.to_pylist() == [image["path"] for image in shown]
    assert column_of(data, "image").to_pylist() == data["image"][:]
