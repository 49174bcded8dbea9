"""`sharp-prompt evaluate`: a trained adapter on a data set."""

import json

import pytest
from inference.conftest import NAMES
from support.demo_images import make_folder
from support.progress import without_progress


def test_it_measures_what_training_did(folder, trained, run):
    code, printed, said = run("evaluate", trained, "--dataset", folder, "--format", "json")
    assert code == 0, said
    measured = json.loads(printed)
    assert measured["accuracy"] == json.loads((trained / "metrics.json").read_text())["accuracy"]
    assert (measured["split"], measured["images"]) == ("test", 6)
    assert list(measured["per_class_accuracy"]) == NAMES
    assert measured["mean_per_class_accuracy"] == pytest.approx(sum(measured["per_class_accuracy"].values()) / 3)
    assert 0 <= measured["expected_calibration_error"] <= 1


def test_a_table_is_for_people(folder, trained_vit, run):
    code, printed, said = run("evaluate", trained_vit, "--dataset", folder / "test")
    assert code == 0, said
    assert printed.startswith(f"{trained_vit} on {folder / 'test'}, train: 6 images, in percent\n")
    for row in (*NAMES, "all images", "mean of the classes", "expected calibration error"):
        assert f" {row} " in printed


def test_classes_are_matched_by_name_and_not_by_number(folder, trained_vit, run, tmp_path):
    """A test set may lack a class; the next ones then have other numbers than the head's."""
    make_folder(tmp_path / "shapes", classes=3, train=1, test=2)
    (tmp_path / "shapes" / "test" / "black_circle").rename(tmp_path / "unused")
    words = ["evaluate", trained_vit, "--format", "json", "--dataset"]
    _, of_two, _ = run(*words, tmp_path / "shapes" / "test")
    _, of_three, _ = run(*words, folder)
    of_two, of_three = json.loads(of_two), json.loads(of_three)
    assert of_two["per_class_accuracy"] == {name: of_three["per_class_accuracy"][name] for name in NAMES[1:]}


def test_a_clip_classifies_into_the_data_sets_classes(folder, trained, run):
    words = ["--class_names", "ring", "plus", "love", "--format", "json"]
    code, printed, _ = run("evaluate", trained, "--dataset", folder, *words)
    assert code == 0
    assert list(json.loads(printed)["per_class_accuracy"]) == ["ring", "plus", "love"]


@pytest.mark.parametrize(
    ("adapter", "words", "message"),
    [
        ("trained", ["--split", "validation"], "has no validation split; it has train, test. Name one with --split."),
        (
            "trained_vit",
            ["--class_names", "black circle", "black cros", "black heart"],
            "The data set has a class 'black cros', which",
        ),
        ("trained_vit", ["--template", "a {}"], "--template is for adapters of CLIP"),
        ("trained", ["--class_names", "one", "two"], "class_names has 2 names, but"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(adapter, words, message, folder, run, request):
    code, printed, said = run("evaluate", request.getfixturevalue(adapter), "--dataset", folder, *words)
    assert (code, printed) == (2, "")
    assert message in said
    assert len(without_progress(said).splitlines()) == 1


def test_an_image_that_cannot_be_read_is_named(trained, run, tmp_path):
    """What is measured on the others alone would be no accuracy on the data set."""
    folder = make_folder(tmp_path / "shapes", classes=3, train=1, test=1)
    broken = folder / "test" / "black_heart" / "0.png"
    broken.write_text("no image")
    code, _, said = run("evaluate", trained, "--dataset", folder)
    assert code == 2
    assert f"The image {broken} cannot be decoded" in said


def test_images_that_cannot_be_read_are_left_out_if_that_is_asked_for(trained, run, tmp_path, caplog):
    folder = make_folder(tmp_path / "shapes", classes=3, train=1, test=2)
    broken = folder / "test" / "black_heart" / "0.png"
    broken.write_text("no image")
    words = ["--on_bad_image", "skip", "--format", "json"]
    code, printed, said = run("evaluate", trained, "--dataset", folder, *words)
    assert code == 0, said
    measured = json.loads(printed)
    assert measured["images"] == 5
    assert [(each["split"], each["path"]) for each in measured["skipped_images"]] == [("test", str(broken))]
    assert str(broken) in caplog.text


def test_the_papers_folders_are_found_below_their_root(trained, run, tmp_path):
    """As by the protocols: `oxford_pets` is a folder in the root, with CoOp's file of splits."""
    pets = tmp_path / "root" / "oxford_pets"
    make_folder(pets / "images", classes=2, train=2, test=1)
    rows = {
        name: [
            [str(path.relative_to(pets / "images")), label, folder.name]
            for label, folder in enumerate(sorted((pets / "images" / split).iterdir()))
            for path in folder.glob(pattern)
        ]
        for name, split, pattern in (("train", "train", "0.png"), ("val", "train", "1.png"), ("test", "test", "*"))
    }
    (pets / "split_zhou_OxfordPets.json").write_text(json.dumps(rows))
    words = ["--dataset", "oxford_pets", "--data_root", tmp_path / "root", "--format", "json"]
    code, printed, said = run("evaluate", trained, *words)
    assert code == 0, said
    assert json.loads(printed)["images"] == 2
