"""`sharp-prompt space`: what it writes and pushes, and what it refuses."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import transformers
from huggingface_hub import HfApi

from hf_sharp_prompt import __main__ as command_line


Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs the command, and returns what it prints."""
    monkeypatch.setattr(sys, "argv", [])
    verbosity = transformers.utils.logging.get_verbosity()

    def run(*words: object) -> str:
        assert command_line.run(["space", *map(str, words)]) == 0
        return capsys.readouterr().out

    yield run
    transformers.utils.logging.set_verbosity(verbosity)


@pytest.fixture
def adapters(space: Path) -> list[Path]:
    return [space / "adapters" / name for name in ("coop", "gcscoop")]


def test_a_space_is_put_on_the_hub_and_replaced_by_the_next_one(hub, run, space, adapters):
    printed = run(*adapters, "--model", "demo", "--images", space / "images", "--push", "--repo_id", "prompts")
    assert printed == f"{hub.endpoint}/spaces/me/prompts\n"
    pushed = hub.files("spaces/me/prompts")
    assert {name: data for name, data in pushed.items() if name.startswith(("adapters", "images", "app"))} == {
        str(path.relative_to(space)): path.read_bytes()
        for path in space.rglob("*")
        if path.is_file() and path.relative_to(space).parts[0] in ("adapters", "images", "app.py")
    }
    assert b"sdk: gradio" in pushed["README.md"]
    assert not any(hub.token.encode() in data for data in pushed.values())
    run(adapters[1], "--model", "demo", "--push", "--repo_id", "me/prompts")
    assert {name.split("/")[1] for name in hub.files("spaces/me/prompts") if "/" in name} == {"gcscoop"}


def test_an_adapter_of_the_hub_is_copied_into_the_space_of_its_name(hub, run, adapters):
    """A private adapter is shown by a public Space, and the Space stays as it is when the adapter changes."""
    HfApi().create_repo("me/pets")
    HfApi().upload_folder(repo_id="me/pets", folder_path=adapters[0])
    run("me/pets", "--model", "demo", "--push", "--private")
    pushed = hub.files("spaces/me/pets")
    assert (
        pushed["adapters/pets/adapter_model.safetensors"] == (adapters[0] / "adapter_model.safetensors").read_bytes()
    )
    assert b"- me/pets" in pushed["README.md"]


def test_a_space_that_could_not_start_is_not_pushed(hub, run, adapters, tmp_path):
    shutil.copytree(adapters[0], tmp_path / "bad")
    config = tmp_path / "bad" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_text_tokens": 5}))
    with pytest.raises(ValueError, match="does not fit its own config"):
        run(tmp_path / "bad", "--model", "demo", "--push")
    assert not hub.repositories


def test_the_files_are_written_for_a_look_at_them(run, adapters, tmp_path):
    assert run(adapters[0], "--model", "demo", "--template", "a {}", "--output_dir", tmp_path / "out") == ""
    assert "template: a {}" in (tmp_path / "out" / "space.yaml").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_page_is_opened_on_the_port_that_is_asked_for(run, adapters, monkeypatch):
    opened = []

    class Page:
        def launch(self, **options):
            opened.append(options)

    monkeypatch.setattr("hf_sharp_prompt.space.folder.open_space", lambda folder: opened.append(folder) or Page())
    run(adapters[0], "--model", "demo", "--port", 7999)
    folder, options = opened
    assert options["server_port"] == 7999
    assert not folder.exists(), "nothing is left behind"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--repo_id", "me/x"], "--repo_id and --private are for a Space on the Hub; add --push, or drop them"),
        (["--images", "nowhere.png"], "There is no file or folder nowhere.png"),
        (["--port", "no"], "Argument --port: it must be a whole number of at least 1"),
        (["--output_dir", "out", "--push"], "Argument --push: not allowed with argument --output_dir"),
    ],
)
def test_wrong_words_are_refused_in_a_sentence(words, sentence, run, adapters):
    with pytest.raises(ValueError, match=sentence):
        run(adapters[0], *words)


def test_what_is_not_installed_is_said(run, adapters, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(
        ValueError, match=r'needs gradio, which is not installed; pip install "hf-sharp-prompt\[space\]"'
    ):
        run(adapters[0])
