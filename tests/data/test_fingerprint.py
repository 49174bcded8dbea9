"""A fingerprint is of what the data are, not of where they lie or how they came there."""

import os
import shutil
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value, load_from_disk
from PIL import Image

from hf_sharp_prompt.data import ImageFeatures, file_cache, fingerprint, load_image_dataset


FEATURES = Features({"image": datasets.Image(), "label": ClassLabel(names=["ant", "bee"])})


def make_folder(root: Path) -> Path:
    for split in ("train", "test"):
        for label, name in enumerate(("ant", "bee")):
            (root / split / name).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (8, 8), (number, label, len(split))).save(root / split / name / f"{number}.bmp")
    return root


def embedded(shades: list[int], labels: list[int], features: Features = FEATURES) -> Dataset:
    images = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in shades]
    return Dataset.from_dict({"image": images, "label": labels}, features=features)


def test_data_that_are_moved_or_copied_are_the_same(tmp_path):
    """Otherwise a finished study is run again because its folder was renamed."""
    first = fingerprint(load_image_dataset(str(make_folder(tmp_path / "here"))))
    shutil.copytree(tmp_path / "here", tmp_path / "copy", copy_function=shutil.copyfile)
    (tmp_path / "here").rename(tmp_path / "there")
    assert {fingerprint(load_image_dataset(str(tmp_path / name))) for name in ("there", "copy")} == {first}


@pytest.mark.parametrize("keeps_time", [True, False])
def test_an_image_replaced_under_the_same_path_is_noticed(tmp_path, keeps_time, monkeypatch):
    """Otherwise a run on other images counts as finished. The file has the same size, and perhaps the same time."""
    monkeypatch.setattr(file_cache, "_SETTLED", 0.0)  # so that young files, too, are kept
    splits = load_image_dataset(str(make_folder(tmp_path)))
    first = fingerprint(splits)
    image = tmp_path / "test" / "bee" / "1.bmp"
    status = image.stat()
    time.sleep(0.02)  # a file system's clock may tick a hundred times a second
    Image.new("RGB", (8, 8), (200, 1, 4)).save(image)
    assert image.stat().st_size == status.st_size
    if keeps_time:
        os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprint(splits) != first


def test_paths_in_a_column_of_strings_stand_for_their_files(tmp_path):
    """As a CSV has them; otherwise replaced images are not noticed."""
    made = []
    for shade in (1, 2):
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(tmp_path / "a.bmp")
        made.append(fingerprint(Dataset.from_dict({"image": [str(tmp_path / "a.bmp"), None], "label": [0, 1]})))
    assert made[0] != made[1]


def is_labelled(label: int | None) -> bool:
    return label is not None


def test_how_data_came_to_be_does_not_matter(tmp_path):
    """Otherwise saving, decoding, selecting or shuffling to and fro makes another data set."""
    made = embedded([1, 2, 3, 4], [0, 1, 1, 0])
    made.save_to_disk(str(tmp_path))
    made.to_parquet(str(tmp_path / "a.parquet"))
    order = [2, 0, 3, 1]
    same = {
        "loaded": load_from_disk(str(tmp_path)),
        "not decoded": made.cast_column("image", datasets.Image(decode=False)),
        "selected": embedded([0, 4, 3, 2, 1], [1, 0, 1, 1, 0]).select([4, 3, 2, 1]),
        "filtered": embedded([1, 9, 2, 3, 4], [0, None, 1, 1, 0]).filter(is_labelled, input_columns="label"),
        "shuffled back": made.select(np.argsort(order)).select(order),
        "Parquet": Dataset.from_parquet(str(tmp_path / "a.parquet"), cache_dir=str(tmp_path)),
        "columns in another order": made.select_columns(["label", "image"]),
        "formatted": made.with_format("torch", columns=["label"]),
        "in parts": datasets.concatenate_datasets([made.select([0]), made.select([1, 2, 3])]),
    }
    assert {name: fingerprint(data) for name, data in same.items()} == dict.fromkeys(same, fingerprint(made))


def test_whatever_is_other_data_is_told_apart():
    """Otherwise a run on these data is taken for a run on those."""
    renamed = Features({**FEATURES, "label": ClassLabel(names=["ant", "wasp"])})
    captions = Features({**FEATURES, "label": List(Value("string"))})
    made = embedded([1, 2], [0, 1])
    others = [
        embedded([1, 3], [0, 1]),
        embedded([1, 2], [1, 1]),
        embedded([2, 1], [0, 1]),
        embedded([1, 2], [0, -1]),
        embedded([1, 2], [0, None]),
        embedded([1, 2, 2], [0, 1, 1]),
        embedded([1, 2], [0, 1], renamed),
        embedded([1, 2], [["a", "b"], ["c"]], captions),
        embedded([1, 2], [["a"], ["b", "c"]], captions),
        made.rename_column("label", "labels"),
        made.add_column("note", ["x", "y"]),
        DatasetDict(train=made),
        DatasetDict(test=made),
        DatasetDict(train=made, test=made),
        ImageFeatures(torch.zeros(2, 1, 4), torch.tensor([0, 1]), ["ant", "bee"]),
        ImageFeatures(torch.ones(2, 1, 4), torch.tensor([0, 1]), ["ant", "bee"]),
        ImageFeatures(torch.zeros(2, 2, 2), torch.tensor([0, 1]), ["ant", "bee"]),
        ImageFeatures(torch.zeros(2, 1, 4), torch.tensor([1, 1]), ["ant", "bee"]),
        ImageFeatures(torch.zeros(2, 1, 4), torch.tensor([0, 1]), ["ant", "wasp"]),
    ]
    assert len({fingerprint(data) for data in [made, *others]}) == len(others) + 1


def test_what_has_no_contents_to_compare_is_refused(tmp_path):
    """Otherwise an object's address identifies it, and no run is ever found again."""
    with pytest.raises(ValueError, match="A IterableDataset has no contents that can be compared without iter"):
        fingerprint(embedded([1], [0]).to_iterable_dataset())
    splits = load_image_dataset(str(make_folder(tmp_path)))
    (tmp_path / "train" / "ant" / "0.bmp").unlink()
    with pytest.raises(ValueError, match=r"file .*train/ant/0.bmp of the data set cannot be read \(No such file"):
        fingerprint(splits)
