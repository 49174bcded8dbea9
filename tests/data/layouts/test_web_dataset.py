"""WebDatasets are read whole or as a stream."""

import io
import json
import tarfile
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from hf_sharp_prompt.data import load_image_dataset


def write_shard(path: Path, samples: list[dict[str, bytes]]) -> None:
    """Each sample: ending → content of its file."""
    with tarfile.open(path, "w") as archive:
        for number, sample in enumerate(samples):
            for ending, content in sample.items():
                info = tarfile.TarInfo(f"{number:04d}.{ending}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def picture(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(content, "PNG")
    return content.getvalue()


LABELS = {
    "cls": lambda label: b"%d" % label,
    "txt": lambda label: (b"cat", b"great dane")[label],
    "json": lambda label: json.dumps({"label": ("cat", "great dane")[label], "width": 4}).encode(),
}


@pytest.fixture(params=["cls", "txt", "json"])
def shards(request, tmp_path: Path) -> tuple[Path, list[str] | None]:
    """Two shards for training and one for testing, and the class names that they need."""
    for name, count in (("train-0000", 4), ("train-0001", 2), ("test-0000", 2)):
        samples = [{"png": picture(n), request.param: LABELS[request.param](n % 2)} for n in range(count)]
        write_shard(tmp_path / f"{name}.tar", samples)
    return tmp_path, ["cat", "great dane"] if request.param == "cls" else None


def test_shards_are_read_by_split(shards):
    folder, names = shards
    splits = load_image_dataset(str(folder), class_names=names)
    assert {name: len(split) for name, split in splits.items()} == {"train": 6, "test": 2}
    for split in splits.values():
        assert split.features["label"].names == ["cat", "great dane"]
        shades = [Image.open(io.BytesIO(row["image"]["bytes"])).getpixel((0, 0))[0] for row in split]
        assert list(split["label"]) == [shade % 2 for shade in shades]


def test_one_shard_is_training_data(shards):
    folder, names = shards
    splits = load_image_dataset(str(folder / "train-0000.tar"), class_names=names)
    assert {name: len(split) for name, split in splits.items()} == {"train": 2, "test": 2}


def test_shards_are_streamed(shards):
    """Otherwise a set that is larger than the disk cannot be evaluated on."""
    folder, _ = shards
    splits = load_image_dataset(str(folder), class_names=["cat", "great dane"], streaming=True)
    assert [*splits] == ["train", "test"]
    rows = [*splits["test"]]
    assert [row["label"] for row in rows] == [0, 1]
    assert splits["test"].features["label"].names == ["cat", "great dane"]
    assert Image.open(io.BytesIO(rows[1]["image"]["bytes"])).getpixel((0, 0)) == (1, 0, 0)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("first", ["png", "JPG"])
def test_images_of_several_formats_are_read(tmp_path, first, streaming):
    """As of scraped photos. `datasets` refuses the archive, or loses what is not as the first five images are."""
    endings = [first, *["png"] * 6, "JPEG", "jpg", "webp"]
    write_shard(tmp_path / "a.tar", [{end: picture(n), "cls": b"%d" % (n % 2)} for n, end in enumerate(endings)])
    load = partial(load_image_dataset, str(tmp_path / "a.tar"), class_names=["cat", "dog"], needs_test_split=False)
    for column in (None, "jpg"):
        rows = [*load(streaming=streaming, image_column=column)["train"]]
        assert [row["label"] for row in rows] == [0, 1] * 5
        assert streaming or [row["image"]["path"].rpartition(".")[2] for row in rows] == endings
        assert [Image.open(io.BytesIO(row["image"]["bytes"])).getpixel((0, 0))[0] for row in rows] == [*range(10)]


def test_numbers_need_names(tmp_path):
    write_shard(tmp_path / "a.tar", [{"png": picture(n), "cls": b"%d" % (n % 2)} for n in range(4)])
    for streaming in (False, True):
        with pytest.raises(ValueError, match=r"labels of .*a.tar are int64 .* .*pass .*class_names"):
            load_image_dataset(str(tmp_path / "a.tar"), streaming=streaming)
    with pytest.raises(ValueError, match="has a label 1, but class_names has only 1 names, of the labels 0 to 0"):
        load_image_dataset(str(tmp_path / "a.tar"), class_names=["cat"])


@pytest.mark.parametrize("content", ["no archive", "no labels", "other types"])
def test_what_is_no_web_dataset_is_refused(tmp_path, content):
    path = tmp_path / "a.tar"
    message = r"a.tar cannot be read as a WebDataset \("
    if content == "no archive":
        path.write_bytes(b"<html>")
    elif content == "no labels":
        write_shard(path, [{"png": picture(0)}])
        message = (
            r"a.tar has no label column; name the one to use with label_column. Its columns are: .*image \(Image\)"
        )
    else:
        write_shard(path, [{"png": picture(0), "cls": b"0"}, {"png": picture(0), "txt": b"1"}])
    with pytest.raises(ValueError, match=message):
        load_image_dataset(str(path))
