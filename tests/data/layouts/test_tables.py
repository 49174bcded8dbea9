"""Tables and text lists of paths and labels are read as people have them, or refused with what is wrong."""

import io
import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features
from PIL import Image

from hf_sharp_prompt.data import load_image_dataset


ROWS = [(f"{number}.png", ("cat", "great dane")[number % 2]) for number in range(8)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight images beside each other."""
    for name, _ in ROWS:
        Image.new("RGB", (4, 4), (int(name[0]), 0, 0)).save(tmp_path / name)
    return tmp_path


def found(splits: DatasetDict) -> set[tuple[str, str]]:
    """All rows of all splits: file name and class."""
    names = splits["train"].features["label"].names
    rows = [row for split in splits.values() for row in split]
    return {(Path(row["image"]["path"]).name, names[row["label"]]) for row in rows}


def written(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


CSV = "".join(f"{path},{name}\n" for path, name in ROWS)
JSONL = "".join(json.dumps({"img": path, "category": name}) + "\n" for path, name in ROWS)
TEXTS = {
    "a.csv": f"image,label\n{CSV}",
    "bom.csv": f"\ufeffimage,label\n{CSV}",
    "semicolons.csv": f"file_name;class\n{CSV.replace(',', ';')}",
    "quotes.csv": "filename,category\n" + "".join(f'"{path}","{name}"\n' for path, name in ROWS),
    "more.csv": "id,path,fine_label,note\n" + "".join(f'{p[0]},./{p},{name},"a, b"\n' for p, name in ROWS),
    "windows.csv": f"image,label\n{CSV}".replace("\n", "\r\n"),
    "a.tsv": f"image_path\tclass_name\n{CSV.replace(',', chr(9))}",
    "a.jsonl": JSONL,
    "lines.json": JSONL,
    "a.json": f"[{','.join(JSONL.split(chr(10))[:-1])}]",
    "spaces.txt": "# path label\n\n" + CSV.replace(",", " "),
    "commas.txt": CSV,
    "tabs.lst": CSV.replace(",", "\t"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_every_way_to_write_paths_and_labels(folder, name):
    """Otherwise own data have to be moved into class folders before anything can be tried."""
    splits = load_image_dataset(written(folder / name, TEXTS[name]))
    assert found(splits) == {*ROWS}
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 5, "test": 3}
    assert splits["train"].features["image"] == datasets.Image(decode=False)


@pytest.mark.parametrize("kind", ["paths", "bytes", "features"])
def test_parquet_with_paths_or_bytes(folder, kind):
    """As pandas and the Hub write it."""
    contents = [(folder / path).read_bytes() for path, _ in ROWS]
    labels = [name for _, name in ROWS]
    if kind == "paths":
        pq.write_table(pa.table({"path": [path for path, _ in ROWS], "label": labels}), folder / "a.parquet")
    elif kind == "bytes":
        pq.write_table(pa.table({"image": contents, "label": labels}), folder / "a.parquet")
    else:
        features = Features({"image": datasets.Image(), "label": ClassLabel(names=["cat", "great dane"])})
        rows = {"image": [{"bytes": each, "path": None} for each in contents], "label": [0, 1] * 4}
        Dataset.from_dict(rows, features=features).to_parquet(str(folder / "a.parquet"))
    splits = load_image_dataset(str(folder / "a.parquet"))
    assert splits["train"].features["label"].names == ["cat", "great dane"]
    if kind == "paths":
        assert found(splits) == {*ROWS}
    else:
        read = {Image.open(io.BytesIO(row["image"]["bytes"])).getpixel((0, 0))[0] for row in splits["test"]}
        assert read < set(range(8))


@pytest.mark.parametrize("ending", ["csv", "txt", "parquet"])
def test_a_folder_with_a_table_for_each_split(folder, ending):
    """The splits that came with the data are used; a sample submission is no split."""
    halves = {"train": ROWS[:4], "val": ROWS[4:6], "my_test": ROWS[6:]}
    for split, rows in halves.items():
        if ending == "parquet":
            (folder / "data").mkdir(exist_ok=True)
            columns = {"image": [f"../{path}" for path, _ in rows], "label": [name for _, name in rows]}
            pq.write_table(pa.table(columns), folder / "data" / f"{split}-00000-of-00001.parquet")
        else:
            lines = "".join(f"{path},{name}\n" for path, name in rows)
            written(folder / f"{split}.{ending}", f"image,label\n{lines}" if ending == "csv" else lines)
    splits = load_image_dataset(str(folder))
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 4, "validation": 2, "test": 2}
    assert found(splits) == {*ROWS}


def test_a_test_table_without_labels_is_left_out(folder, caplog):
    """As competitions have it: its images cannot be tested on, but the others can."""
    written(folder / "train.csv", f"image,label\n{CSV}")
    written(folder / "test.csv", "image\n0.png\n")
    assert "test" in load_image_dataset(str(folder))
    assert f"The test split of {folder} has no column 'label' of labels and is left out." in caplog.text


@pytest.mark.parametrize("place", ["images", "list", "elsewhere", "absolute", "above"])
def test_where_paths_begin(folder, place):
    """At the table's folder, or at `images` or the folder of the table's name in it; they may lead anywhere."""
    home = folder / "home"
    prefix = {"absolute": f"{folder}/", "above": "../"}.get(place, "")
    text = "image,label\n" + "".join(f"{prefix}{path},{name}\n" for path, name in ROWS)
    table = written(home / "list.csv", text)
    if place in ("images", "list", "elsewhere"):
        (home / place).mkdir()
        for path, _ in ROWS:
            (folder / path).rename(home / place / path)
    if place == "elsewhere":
        with pytest.raises(ValueError, match=rf"8 of 8 image files of {table} do not exist; .* at {home}/.\.png, "):
            load_image_dataset(table)
    else:
        assert found(load_image_dataset(table)) == {*ROWS}


def test_missing_files_are_counted_and_named_with_their_place(folder):
    """Otherwise training ends in its middle, for one file after the other."""
    (folder / "3.png").unlink()
    (folder / "5.png").unlink()
    table = written(folder / "a.csv", TEXTS["a.csv"])
    message = rf"2 of 8 image files of {table} do not exist; they were looked for at {folder}/3.png, {folder}/5.png\."
    with pytest.raises(ValueError, match=message):
        load_image_dataset(table)


def test_paths_and_labels_with_spaces(folder):
    rows = [
        ("my cat.png", "tabby cat"),
        ("b.c d.PNG", "great dane"),
        ("e,f.png", "tabby cat"),
        ("g.png", "great dane"),
    ]
    for path, _ in rows:
        Image.new("RGB", (4, 4)).save(folder / path)
    for separator in (" ", ", ", "\t"):
        text = "".join(f"{path}{separator}{name}\n" for path, name in rows)
        assert found(load_image_dataset(written(folder / "list.txt", text))) == {*rows}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", CSV, r"starts with an image and not with the names of the columns; add a first line such as image,"),
        ("a.csv", "image,label\n", "has no rows; add one for each image"),
        ("a.csv", "", "has no rows"),
        ("a.csv", "image,label\n0.png,cat,big\n", "has 2 columns, but line 2 has another number of cells; put quotes"),
        ("a.csv", "image,label,label\n0.png,a,b\n", "has several columns 'label'; rename all but one"),
        ("a.csv", "id,kind\n1,cat\n", r"a.csv has no image column; name .* image_column. Its columns are: id \(Value"),
        ("a.csv", "image,kind\n0.png,cat\n", r"has no label column; name .* label_column. Its columns are: .*kind"),
        ("a.csv", "image,class,category\n0.png,a,b\n", r"several label columns \(class, category\); name the one"),
        ("a.csv", "image,label\n0.png,cat\n1.png,cat\n", r"at least two classes, but .* has 1: \['cat'\]"),
        ("a.csv", "image,label\n0.png,\n1.png,\n", "train split of .* has no labelled images"),
        ("a.csv", "image,label\n,cat\n1.png,dog\n", r"1 of 2 images in the train split of .* are missing \(None\)"),
        ("a.json", "{", r"is not JSON: .*\. It must hold a list of objects, or one on each line"),
        ("a.json", "[1, 2]", "holds values that are no objects; write each image as an object"),
        ("a.jsonl", '{"image": "0.png", "label": 1}\n{"image": "1.png", "label": "a"}\n', "several types .*; give it"),
        ("a.parquet", "PAR1", "cannot be read as a Parquet file"),
        ("a.txt", "0.png cat\nlonely.png\n", "has a line that is no path and label: 'lonely.png'; write `path label`"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(folder, name, text, message):
    path = written(folder / name, text)
    with pytest.raises(ValueError, match=message) as raised:
        load_image_dataset(path)
    assert path in str(raised.value)


def test_text_in_another_encoding_is_refused(folder):
    (folder / "a.csv").write_bytes("image,label\n0.png,Müsli\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a.csv is no text in UTF-8 .*; save it in UTF-8"):
        load_image_dataset(str(folder / "a.csv"))


def test_a_table_of_two_splits_and_tables_that_differ_are_refused(folder):
    written(folder / "train.csv", TEXTS["a.csv"])
    written(folder / "train_2.csv", "file,label\n0.png,cat\n")
    with pytest.raises(
        ValueError, match=r"train_2.csv has other columns than train.csv: .*; give tables of one split"
    ):
        load_image_dataset(str(folder))
    (folder / "train_2.csv").rename(folder / "train_val.csv")
    with pytest.raises(
        ValueError, match=r"The file train_val.csv of .* may be the train or the validation split; ren"
    ):
        load_image_dataset(str(folder))


def test_a_test_table_of_empty_labels_is_left_out(folder, caplog):
    """JSON's null has no type of its own."""
    written(folder / "train.jsonl", JSONL)
    written(folder / "test.jsonl", '{"img": "0.png", "category": null}\n')
    assert {split: len(rows) for split, rows in load_image_dataset(str(folder)).items()} == {"train": 5, "test": 3}
    assert f"The test split of {folder} has no labelled images and is left out." in caplog.text


def test_numbers_that_pandas_wrote_as_floats_are_no_names(folder):
    with pytest.raises(
        ValueError, match=r"named by a code or number, and prompts need words: 0\.0, 1\.0\. Pass class_"
    ):
        load_image_dataset(written(folder / "a.csv", "image,label\n0.png,0.0\n1.png,1.0\n"))


def test_numbers_that_pandas_wrote_as_floats_are_numbers_with_names(folder):
    """It writes them so in columns where some are missing."""
    rows = "".join(f"{name},{int(label == 'great dane')}.0\n" for name, label in ROWS)
    path = written(folder / "a.csv", f"image,label\n{rows}")
    assert found(load_image_dataset(path, class_names=["cat", "great dane"])) == {*ROWS}
    table = {"image": [name for name, _ in ROWS], "label": [float(label == "great dane") for _, label in ROWS]}
    pq.write_table(pa.table(table), folder / "a.parquet")
    assert found(load_image_dataset(str(folder / "a.parquet"), class_names=["cat", "great dane"])) == {*ROWS}


def test_a_column_of_splits_is_followed(folder):
    """Otherwise test images are trained on, and nobody notices."""
    rows = [f"{name},{label},{'train' if number < 5 else 'val'}" for number, (name, label) in enumerate(ROWS)]
    path = written(folder / "a.csv", "\n".join(["image,label,split", *rows]))
    splits = load_image_dataset(path)
    assert {name: len(split) for name, split in splits.items()} == {"train": 5, "test": 3}
    assert found(splits) == {*ROWS}
    written(folder / "a.csv", "\n".join(["image,label,split", *rows, "0.png,cat,fold3"]))
    with pytest.raises(ValueError, match=r"a.csv has rows whose split is fold3; write train, validation or test in"):
        load_image_dataset(path)


def test_images_that_are_listed_twice_are_not_held_out(folder):
    """Some would be trained on and tested on."""
    rows = "".join(f"{name},{label}\n" for name, label in ROWS)
    path = written(folder / "a.csv", f"image,label\n{rows}{rows}")
    with pytest.raises(ValueError, match=r"none can be held out, since 8 of its images are listed more than once"):
        load_image_dataset(path)
