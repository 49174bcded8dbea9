"""`--dataset` takes the name of a data set that was added at run time."""

import json

from PIL import Image

from hf_sharp_prompt import SharpPromptTrainingArguments
from hf_sharp_prompt.data import catalogue
from hf_sharp_prompt.data.catalogue import CatalogueEntry
from hf_sharp_prompt.experiments.base_to_novel import BaseToNovel, BaseToNovelArguments


def test_an_experiment_has_the_names_and_the_prompt_of_the_catalogue(tmp_path, monkeypatch):
    """Otherwise zero-shot CLIP is measured with another prompt than the papers'."""
    monkeypatch.setattr(catalogue, "ADDED", {})
    names = {"c1": "red star", "c2": "blue heart", "c3": "green moon", "c4": "pink ring"}
    for code in names:
        (tmp_path / "photos" / code).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (48, 48), (60 * number, 0, 0)).save(tmp_path / "photos" / code / f"{number}.png")
    catalogue.add(CatalogueEntry("my_set", str(tmp_path / "photos"), class_names=names, template="my {}."))
    training = SharpPromptTrainingArguments(str(tmp_path / "runs"), use_cpu=True)
    experiment = BaseToNovel("my_set", BaseToNovelArguments(dataset=["my_set"]), training)
    assert experiment.images.template == "my {}."
    assert experiment.directory == tmp_path / "runs" / "my_set"
    assert experiment.evaluation_pixels["novel"].features["label"].names == ["green moon", "pink ring"]


def test_an_experiment_reads_the_papers_folders_and_leaves_bad_images_out(tmp_path):
    """`--data_root` and `--on_bad_image` would otherwise be taken, and mean nothing."""
    pets = tmp_path / "oxford_pets"
    (pets / "images").mkdir(parents=True)
    rows = []
    for label, name in enumerate(["beagle", "bombay", "persian", "pug"]):
        for number in range(3):
            Image.new("RGB", (48, 48), (60 * number, 60 * label, 0)).save(pets / "images" / f"{name}_{number}.png")
            rows.append([f"{name}_{number}.png", label, name])
    (pets / "images" / "pug_2.png").write_bytes(b"<html>")
    (pets / "split_zhou_OxfordPets.json").write_text(
        json.dumps({"train": rows[0::3], "val": rows[1::3], "test": rows[2::3]})
    )
    args = BaseToNovelArguments(dataset=["oxford_pets"], data_root=str(tmp_path), on_bad_image="skip")
    experiment = BaseToNovel("oxford_pets", args, SharpPromptTrainingArguments(str(tmp_path / "runs"), use_cpu=True))
    assert experiment.images.template == "a photo of a {}, a type of pet."
    assert experiment.evaluation_pixels["novel"].features["label"].names == ["persian", "pug"]
    assert [len(experiment.splits[name]) for name in ("train", "validation", "test")] == [4, 4, 3]
