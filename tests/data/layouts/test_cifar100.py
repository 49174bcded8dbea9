"""CIFAR-100 in its two versions, and CIFAR100-LT against a slow subsampling as the authors' code does it.

The steps are those of `datasets/cifar100.py` of https://github.com/Keke921/GNM-PT (and of
https://github.com/shijxcs/LIFT): `get_img_num_per_cls` and `gen_imbalanced_data`.
"""

import pickle

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features

from hf_sharp_prompt.data import exponential_counts, load_image_dataset, subsample
from hf_sharp_prompt.data.decoding import decode
from hf_sharp_prompt.data.loading import load_class_names


NAMES = ["apple", "aquarium_fish", "baby"]


def make_images(count, seed):
    random = np.random.RandomState(seed)
    return random.randint(0, 256, (count, 3072)).astype(np.uint8), random.permutation(np.arange(count) % 3)


def save_binary(folder):
    folder.mkdir()
    for split, count in (("train", 9), ("test", 6)):
        pixels, labels = make_images(count, count)
        coarse = np.full((count, 1), 7, dtype=np.uint8)
        np.hstack([coarse, labels[:, None].astype(np.uint8), pixels]).tofile(folder / f"{split}.bin")
    (folder / "fine_label_names.txt").write_text("\n".join(NAMES) + "\n\n")


def save_python(folder, protocol=4):
    folder.mkdir()
    for split, count in (("train", 9), ("test", 6)):
        pixels, labels = make_images(count, count)
        content = {b"data": pixels, b"fine_labels": labels.tolist(), b"coarse_labels": [7] * count}
        (folder / split).write_bytes(pickle.dumps(content, protocol=protocol))
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": [name.encode() for name in NAMES]}))


@pytest.mark.parametrize(("version", "save"), [("cifar-100-binary", save_binary), ("cifar-100-python", save_python)])
@pytest.mark.parametrize("place", ["the folder", "the folder around it", "the data root"])
def test_images_are_in_the_order_of_the_files(tmp_path, version, save, place):
    save(tmp_path / version)
    if place == "the data root":
        splits = load_image_dataset("cifar100", data_root=tmp_path)
    else:
        splits = load_image_dataset(str(tmp_path / version if place == "the folder" else tmp_path))
    for split, count in (("train", 9), ("test", 6)):
        pixels, labels = make_images(count, count)
        assert splits[split]["label"] == labels.tolist()
        for image, expected in zip(splits[split]["image"], pixels, strict=True):
            np.testing.assert_array_equal(np.asarray(decode(image)), expected.reshape(3, 32, 32).transpose(1, 2, 0))
    assert splits["train"].features["label"].names == ["apple", "aquarium fish", "baby"]
    assert load_class_names(str(tmp_path / version)) == ["apple", "aquarium fish", "baby"]


def test_the_pickles_of_python_2_are_read(tmp_path):
    """Theirs are of protocol 2, in which texts and the contents of arrays are strings of bytes."""
    save_python(tmp_path / "cifar-100-python")
    pixels, labels = make_images(9, 9)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K\x09M\x00\x0ct"
        b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T" + pixels.nbytes.to_bytes(4, "little") + pixels.tobytes() + b"tb"
    )
    listed = b"".join(b"K" + bytes([label]) for label in labels.tolist())
    content = b"\x80\x02}(U\x04data" + array + b"U\x0bfine_labels](" + listed + b"eu."
    (tmp_path / "cifar-100-python" / "train").write_bytes(content)
    train = load_image_dataset(str(tmp_path))["train"]
    assert train["label"] == labels.tolist()
    expected = pixels[3].reshape(3, 32, 32).transpose(1, 2, 0)
    np.testing.assert_array_equal(np.asarray(decode(train[3]["image"])), expected)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


class TestErrors:
    @pytest.mark.parametrize("place", ["data", "fine_labels", "other"])
    def test_a_pickle_that_names_a_function_is_refused_and_calls_nothing(self, tmp_path, place):
        save_python(tmp_path / "cifar-100-python")
        pixels, labels = make_images(9, 9)
        content = {"data": pixels, "fine_labels": labels.tolist(), place: Trap(str(tmp_path / "trap"))}
        (tmp_path / "cifar-100-python" / "train").write_bytes(pickle.dumps(content))
        with pytest.raises(ValueError, match=r"train is no file of CIFAR-100 \(it names .*open, which such files do"):
            load_image_dataset(str(tmp_path))
        assert not (tmp_path / "trap").exists()

    @pytest.mark.parametrize(
        "content",
        [
            {"data": np.zeros((2, 3072)), "fine_labels": [0, 1]},
            {"data": np.zeros((2, 3072), dtype=np.uint8), "fine_labels": [0]},
            {"data": [0, 1], "fine_labels": [0, 1]},
            {"fine_labels": [0, 1]},
        ],
    )
    def test_a_pickle_of_other_data(self, tmp_path, content):
        save_python(tmp_path / "cifar-100-python")
        (tmp_path / "cifar-100-python" / "train").write_bytes(pickle.dumps(content, protocol=4))
        with pytest.raises(ValueError, match=r"train has no data and fine_labels of CIFAR-100; download"):
            load_image_dataset(str(tmp_path))

    @pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([1])])
    def test_no_pickle_of_cifar(self, tmp_path, content):
        save_python(tmp_path / "cifar-100-python")
        (tmp_path / "cifar-100-python" / "test").write_bytes(content)
        with pytest.raises(ValueError, match=r"test is no file of CIFAR-100"):
            load_image_dataset(str(tmp_path))

    def test_files_that_are_cut_off_or_missing(self, tmp_path):
        save_binary(tmp_path / "cifar-100-binary")
        (tmp_path / "cifar-100-binary" / "test.bin").write_bytes(b"\x00" * 3000)
        with pytest.raises(ValueError, match=r"test.bin has 3000 bytes, no multiple of the 3074 of an image"):
            load_image_dataset(str(tmp_path))
        (tmp_path / "cifar-100-binary" / "test.bin").unlink()
        with pytest.raises(ValueError, match=r"has no test.bin; it was looked for at"):
            load_image_dataset(str(tmp_path))


@pytest.mark.parametrize("seed", [0, 1, 17])
@pytest.mark.parametrize("factor", [0.1, 0.02, 0.01, 0.005])
def test_cifar100_lt_keeps_the_very_images_of_the_authors(seed, factor):
    """Counts are rounded down from powers of the inverse imbalance; one random stream shuffles class after class."""
    targets = np.random.RandomState(123).permutation(np.arange(50_000) % 100)
    np.random.seed(seed)
    kept = []
    for label in range(100):
        count = int(len(targets) / 100 * factor ** (label / (100 - 1.0)))
        members = np.where(targets == label)[0]
        np.random.shuffle(members)
        kept += [*members[:count]]
    features = Features({"fine_label": ClassLabel(names=[str(label) for label in range(100)])})
    data = Dataset.from_dict({"fine_label": targets}, features=features).add_column("index", np.arange(50_000))
    counts = exponential_counts(100, 500, 1 / factor)
    assert sorted(kept) == subsample(data, counts, seed=seed, label_column="fine_label")["index"]
