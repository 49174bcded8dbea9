"""Images that cannot be read are refused before training, or left out, counted and listed."""

import io
from pathlib import Path

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features
from PIL import Image

from hf_sharp_prompt.data import class_counts, file_cache, load_image_dataset


def content(shade: int, form: str = "PNG") -> bytes:
    written = io.BytesIO()
    Image.linear_gradient("L").point(lambda value: value ^ shade).save(written, form)
    return written.getvalue()


BAD = {"empty": b"", "truncated": content(9)[:300], "text": b"<html>", "jpeg": content(9, "JPEG")[:600]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes with ten images each, of which four of the first class cannot be read."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(10):
            (tmp_path / name / f"{number}.png").write_bytes(content(number))
    for number, damaged in enumerate(BAD.values()):
        (tmp_path / "cat" / f"{number}.png").write_bytes(damaged)
    return tmp_path


def test_they_are_left_out_counted_and_listed(folder, caplog):
    """Otherwise one broken download among thousands ends the run in its middle."""
    splits = load_image_dataset(str(folder), on_bad_image="skip")
    assert f"4 of 20 images in the train split of {folder} cannot be read and are left out: " in caplog.text
    for number in range(4):
        assert f"The image {folder}/cat/{number}.png cannot be decoded (" in caplog.text
    counts = [class_counts(split) for split in splits.values()]
    assert [sum(each) for each in zip(*counts, strict=True)] == [6, 10]


def test_the_result_is_kept_until_a_file_changes(folder, caplog, monkeypatch):
    """Otherwise every start decodes all images."""
    monkeypatch.setattr(file_cache, "_SETTLED", -60.0)
    load_image_dataset(str(folder), on_bad_image="skip")
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", None)
        load_image_dataset(str(folder), on_bad_image="skip")
    assert caplog.text.count("4 of 20 images") == 2
    (folder / "cat" / "0.png").write_bytes(content(0))
    load_image_dataset(str(folder), on_bad_image="skip")
    assert "3 of 20 images" in caplog.text


def test_images_that_are_bytes_or_missing_are_left_out_too(tmp_path, caplog):
    images = [content(1), content(2), BAD["truncated"], None, content(3), content(4), content(5), content(6)]
    rows = {"image": [each and {"bytes": each, "path": None} for each in images], "label": [0, 1] * 4}
    features = Features({"image": datasets.Image(), "label": ClassLabel(names=["cat", "dog"])})
    Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "saved"))
    skipped = []
    splits = load_image_dataset(str(tmp_path / "saved"), on_bad_image="skip", skipped=skipped)
    assert sum(map(len, splits.values())) == 6
    assert "2 of 8 images in the train split" in caplog.text
    assert [(each.split, each.row, each.path) for each in skipped] == [("train", 2, None), ("train", 3, None)]


def test_a_missing_file_of_a_table_is_left_out_too(folder, caplog):
    rows = "".join(f"{name}/{number}.png,{name}\n" for name in ("cat", "dog") for number in range(4, 12))
    (folder / "a.csv").write_text(f"image,label\n{rows}", encoding="utf-8")
    splits = load_image_dataset(str(folder / "a.csv"), on_bad_image="skip")
    assert sum(map(len, splits.values())) == 12
    assert f"The image {folder}/dog/11.png cannot be decoded (" in caplog.text


def test_a_split_of_bad_images_alone_is_empty(tmp_path, caplog):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(2):
                (tmp_path / split / name / f"{number}.png").write_bytes(content(1) if split == "train" else b"no")
    load_image_dataset(str(tmp_path), on_bad_image="skip")
    assert f"The test split of {tmp_path} has no readable images and is left out." in caplog.text
    for path in (tmp_path / "train").rglob("*.png"):
        path.write_bytes(b"no")
    with pytest.raises(ValueError, match=r"The train split of .* has no readable images; use a data set that has"):
        load_image_dataset(str(tmp_path), on_bad_image="skip")


def test_empty_files_are_refused_before_training(folder):
    with pytest.raises(ValueError, match=r"1 of 20 image files of .* are empty \(0 bytes\): .*cat/0.png\. Restore th"):
        load_image_dataset(str(folder))


def test_another_choice_is_refused(folder):
    with pytest.raises(ValueError, match="on_bad_image must be 'raise' or 'skip', got 'ignore'"):
        load_image_dataset(str(folder), on_bad_image="ignore")
