"""Commands as processes side by side."""

import json

import pytest

from hf_sharp_prompt.study.commands import Command
from hf_sharp_prompt.study.side_by_side import run


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "in.json"
    path.write_text("{}")
    return path


def test_what_has_succeeded_is_not_run_again_unless_its_words_change(document, tmp_path):
    written = tmp_path / "out.json"
    command = Command("copy", (str(document), str(written)), "json.tool")
    assert [(each.name, code) for each, code in run([command], 2, tmp_path / "log")] == [("copy", 0)]
    assert json.loads(written.read_text()) == {}
    assert not list(run([command], 2, tmp_path / "log"))
    again = Command("copy", (str(document), str(written), "--sort-keys"), "json.tool")
    assert [code for _, code in run([again], 2, tmp_path / "log")] == [0]


def test_a_failure_is_told_logged_and_run_again(tmp_path):
    command = Command("copy", (str(tmp_path / "missing.json"),), "json.tool")
    for _ in range(2):
        assert [code for _, code in run([command], 2, tmp_path / "log")] == [2]
    assert "missing.json" in (tmp_path / "log" / "copy.log").read_text()


def test_a_process_has_one_thread_and_no_launcher(document, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    (tmp_path / "show.py").write_text(
        "import os; print(os.environ['OMP_NUM_THREADS'], [name for name in os.environ if 'ACCELERATE' in name])"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert [code for _, code in run([Command("show", (), "show")], 1, tmp_path / "log")] == [0]
    assert (tmp_path / "log" / "show.log").read_text() == "1 []\n"
