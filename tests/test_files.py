"""What is written is whole, or what was there before."""

import pytest

from hf_sharp_prompt.files import written_whole


def test_an_error_leaves_what_was_there(tmp_path):
    target = tmp_path / "made" / "result.json"
    with written_whole(target) as path:
        path.write_text("first")

    def write_half() -> None:
        with written_whole(target) as path:
            path.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert target.read_text() == "first"
    assert [each.name for each in target.parent.iterdir()] == ["result.json"]


def test_a_folder_keeps_the_files_that_are_not_replaced(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "kept").write_text("old")
    (tmp_path / "run" / "replaced").write_text("old")
    with written_whole(tmp_path / "run") as folder:
        folder.mkdir()
        (folder / "replaced").write_text("new")
    assert {each.name: each.read_text() for each in (tmp_path / "run").iterdir()} == {"kept": "old", "replaced": "new"}
