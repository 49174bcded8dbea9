"""Facts about files are found out once, and again when a file changes."""

import os
import time
from pathlib import Path

import pytest

from hf_sharp_prompt.data import file_cache
from hf_sharp_prompt.data.file_cache import FileCache


class Reader:
    """Reads files, and remembers which."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, path: str) -> str:
        self.read.append(Path(path).name)
        return Path(path).read_text(encoding="utf-8")


@pytest.fixture
def files(tmp_path, monkeypatch) -> list[str]:
    """Files that have not changed for a minute."""
    monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    monkeypatch.setattr(file_cache, "_SETTLED", -60.0)
    paths = []
    for name in ("a", "b", "é", "a"):
        (tmp_path / name).write_text(name, encoding="utf-8")
        paths.append(str(tmp_path / name))
    return paths


def look_up(files: list[str]) -> tuple[list[str], list[str]]:
    """Facts as another process gets them, and which files were read for them."""
    reader = Reader()
    return [*FileCache("texts", reader).facts(files)], sorted(reader.read)


def test_files_are_read_once(files):
    """Otherwise every start reads all images of a data set."""
    assert look_up(files) == (["a", "b", "é", "a"], ["a", "b", "é"])
    assert look_up(files[::-1]) == (["a", "é", "b", "a"], [])
    assert [*FileCache("others", str.upper).facts(files[:1])] == [files[0].upper()]


@pytest.mark.parametrize("keeps_time", [True, False])
def test_a_file_that_changed_is_read_again(files, keeps_time):
    look_up(files)
    before = os.stat(files[1])
    time.sleep(0.02)  # a file system's clock may tick a hundred times a second
    Path(files[1]).write_text("c", encoding="utf-8")
    if keeps_time:
        os.utime(files[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert look_up(files) == (["a", "c", "é", "a"], ["b"])


def test_facts_about_a_file_that_may_still_change_are_not_kept(files, monkeypatch):
    """A second change within a tick of the clock leaves no sign."""
    monkeypatch.setattr(file_cache, "_SETTLED", 60.0)
    look_up(files)
    assert look_up(files)[1] == ["a", "b", "é"]


def test_without_a_cache_facts_are_found_out_again(files, tmp_path):
    """Otherwise a read-only or damaged home ends the run."""
    (tmp_path / "assets" / "hf_sharp_prompt").mkdir(parents=True)
    (tmp_path / "assets" / "hf_sharp_prompt" / "files").write_text("a file", encoding="utf-8")
    assert look_up(files) == (["a", "b", "é", "a"], ["a", "b", "é"])
    (tmp_path / "assets" / "hf_sharp_prompt" / "files").unlink()
    look_up(files)
    (database,) = (tmp_path / "assets").rglob("texts.sqlite")
    database.write_bytes(b"no database" * 100)
    assert look_up(files) == (["a", "b", "é", "a"], ["a", "b", "é"])


def test_a_file_that_does_not_exist(files):
    with pytest.raises(FileNotFoundError, match="gone"):
        look_up([*files, "gone"])
