"""Where NFL takes names and templates from; its term is tested in test_zero_shot_objectives.py."""

import pytest

from hf_sharp_prompt.objectives import create
from hf_sharp_prompt.objectives.templates import read_templates


CLASSES = ["red circle", "blue heart", "a very green star"]
NOVEL = ["grey moon", "yellow ring"]


@pytest.mark.parametrize("source", ["list", "file"])
def test_names_are_a_list_or_a_file(source, tmp_path):
    (tmp_path / "names.txt").write_text("grey moon\n\n  yellow ring\n")
    nfl = create("nfl", novel_class_names=NOVEL if source == "list" else str(tmp_path / "names.txt"))
    assert nfl._read_names(CLASSES) == NOVEL


def test_other_names_are_refused_since_objectives_load_no_data_sets():
    """Otherwise an objective downloads what the arguments should have read."""
    with pytest.raises(ValueError, match=r"no class names 'imagenet_10'; did you mean 'imagenet_100'"):
        create("nfl", novel_class_names="imagenet_10")._read_names(CLASSES)


def test_names_trained_on_are_dropped_and_said(caplog):
    """Otherwise a class is held back that is to be learned."""
    nfl = create("nfl", novel_class_names=["Red_circle", *NOVEL, "blue heart", NOVEL[0]])
    assert nfl._read_names(CLASSES) == NOVEL
    assert [each.getMessage() for each in caplog.records] == [
        "nfl leaves out the names of classes that are trained on: Red circle, blue heart."
    ]
    with pytest.raises(ValueError, match="none of novel_class_names is a name of other classes"):
        create("nfl", novel_class_names=CLASSES)._read_names(CLASSES)


def test_a_hundred_of_imagenets_names_are_the_authors():
    """Otherwise few-shot runs hold back other classes than SubPT's."""
    names = create("nfl", novel_class_names="imagenet_100")._read_names(["Acorn"])
    assert len(set(names)) == len(names) == 99
    assert [*names[:2], names[-1]] == ["pickup truck", "lampshade", "Norwich Terrier"]


def test_templates_may_be_an_ensemble_or_a_file(tmp_path):
    (tmp_path / "templates.txt").write_text("a {}.\nthe {}.\n")
    assert read_templates(str(tmp_path / "templates.txt"), "nfl") == ["a {}.", "the {}."]
    assert [len(read_templates(f"imagenet_{n}", "nfl")) for n in (7, 60, 80)] == [7, 60, 80]
    both = read_templates(["imagenet_80", "{} texture.", str(tmp_path / "templates.txt")], "nfl")
    assert both == [*read_templates("imagenet_80", "nfl"), "{} texture.", "a {}.", "the {}."]
