"""Plain folders of one's own: names mean the same by every way into the package, and what is wrong is said."""

from pathlib import Path

import pytest
from datasets import load_dataset
from peft import get_peft_model
from PIL import Image

from hf_sharp_prompt import CLIPPromptConfig
from hf_sharp_prompt.data import load_image_dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One folder per class, without splits."""
    for name, colour in (("red_star", (200, 20, 20)), ("blue_heart", (20, 20, 200))):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (48, 48), colour).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


def test_underscores_in_names_are_spaces_by_every_way(folder, clip, tokenizer):
    """Otherwise the same folder gives other prompts in Python than by the command line."""
    ids = []
    for names in (
        load_dataset("imagefolder", data_dir=str(folder))["train"].features["label"].names,
        load_image_dataset(str(folder))["train"].features["label"].names,
    ):
        model = get_peft_model(clip, CLIPPromptConfig(num_text_tokens=2))
        model.set_classes(names, tokenizer, "a photo of a {}.")
        ids.append(model.active_peft_config.class_token_ids)
        clip = model.unload()
    assert ids[0] == ids[1] == tokenizer(["a photo of a blue heart.", "a photo of a red star."])["input_ids"]


def test_a_link_to_the_training_images_is_no_test_split(folder):
    (folder.parent / "set").mkdir()
    folder.rename(folder.parent / "set" / "train")
    (folder.parent / "set" / "test").symlink_to(folder.parent / "set" / "train")
    with pytest.raises(ValueError, match="12 image files are in the test split and in the train split as well"):
        load_image_dataset(str(folder.parent / "set"))


def test_splits_without_a_class_in_common_are_refused(folder):
    """As where one split is written in capitals: nothing that is learned would be measured."""
    root = folder.parent / "set"
    for name in ("Red_Star", "Blue_Heart"):
        (root / "test" / name).mkdir(parents=True)
        Image.new("RGB", (48, 48)).save(root / "test" / name / "0.png")
    folder.rename(root / "train")
    with pytest.raises(ValueError, match="have no class in common: blue heart, red star and Blue Heart, Red Star; na"):
        load_image_dataset(str(root))
    assert len(load_image_dataset(str(root), needs_test_split=False)["test"]) == 2, "to measure on"


def test_a_list_beside_one_folder_of_images_is_pointed_out(folder):
    """`--dataset photos` instead of `--dataset photos/photos.csv`."""
    (folder / "red_star").rename(folder.parent / "red_star")
    (folder / "photos.csv").write_text("image,label\n")
    with pytest.raises(ValueError, match=r"in one folder, 'blue_heart'; if photos.csv says .*give .*/photos.csv as"):
        load_image_dataset(str(folder))


def test_images_of_an_unknown_format_are_counted(folder, caplog):
    """Photos of telephones would be missing, and nobody would know why."""
    (folder / "red_star" / "IMG_1.HEIC").write_bytes(b"heic")
    load_image_dataset(str(folder))
    assert f"1 images of {folder} are of a format that is not read and are left out, such as IMG_1.HEIC" in caplog.text
