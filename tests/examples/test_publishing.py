"""Adapters that the Hub refuses cost neither the others nor the results, and the end says what is missing."""

from collections.abc import Iterator
from functools import partial
from io import StringIO
from pathlib import Path

import huggingface_hub
import pytest
from hub.local_hub import LocalHub
from huggingface_hub import HfApi
from rich.console import Console

from hf_sharp_prompt.experiments import publishing
from hf_sharp_prompt.experiments.publishing import Publication, push_missing
from hf_sharp_prompt.experiments.results import ADAPTER_FILES
from hf_sharp_prompt.experiments.runs import end_of


METHODS = ["coop", "gcscoop", "subpt"]
CREATION, COMMIT = "POST /api/repos/create", "POST /api/models/.*/commit/"
OFTEN = 100  # more often than anything asks


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A Hub that this process publishes to, trying again without waiting."""
    with LocalHub() as hub:
        monkeypatch.setattr(publishing, "HfApi", partial(HfApi, endpoint=hub.endpoint))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("time.sleep", lambda _: None)
        yield hub


@pytest.fixture
def publications(hub: LocalHub, tmp_path: Path) -> list[Publication]:
    """The adapters of three finished runs, each for a repository of its method's name."""
    for method in METHODS:
        (tmp_path / method).mkdir()
        for name in (*ADAPTER_FILES, "README.md"):
            (tmp_path / method / name).write_text(f'{{"file": "{name} of {method}"}}')
    return [Publication(tmp_path / method, f"me/{method}", hub.token) for method in METHODS]


def push(publications: list[Publication], hub: LocalHub, failing: str, status: int) -> None:
    """Push one after the other, while the Hub answers requests for the second one's repository with an error."""
    for each in publications:
        hub.failures.clear()
        if each is publications[1]:
            hub.fail(failing, status, OFTEN)
        each.push()


def end(publications: list[Publication]) -> tuple[int, str]:
    """A script's exit code and last words, after runs of which none failed."""
    console = Console(file=StringIO(), width=80)
    code = end_of([{"coop": [{"seed": 1}]}], publications, console)
    return code, console.file.getvalue()


@pytest.mark.parametrize("status", [403, 429, 500])
@pytest.mark.parametrize("failing", [CREATION, COMMIT])
def test_an_adapter_that_the_hub_refuses_does_not_cost_the_others(failing, status, hub, publications):
    push(publications, hub, failing, status)
    for method in ("coop", "subpt"):
        expected = {name: f'{{"file": "{name} of {method}"}}'.encode() for name in (*ADAPTER_FILES, "README.md")}
        assert hub.files(f"me/{method}") == expected
    assert not hub.files("me/gcscoop") if failing == COMMIT else "me/gcscoop" not in hub.repositories


@pytest.mark.parametrize("status", [403, 500])
@pytest.mark.parametrize("failing", [CREATION, COMMIT])
def test_the_end_names_what_is_missing_and_why(failing, status, hub, publications):
    """Otherwise a user learns of it when somebody else cannot load the adapter."""
    push(publications, hub, failing, status)
    hub.fail(failing, status, OFTEN)
    code, said = end(publications)
    assert code == 1
    (line,) = [line for line in said.splitlines() if line.startswith("NOT PUSHED")]
    assert f"{publications[1].directory} to me/gcscoop: the Hub answered {status}" in line
    assert "loaded back" in said


@pytest.mark.parametrize("failing", [CREATION, COMMIT])
def test_the_end_pushes_what_failed_before_and_nothing_else(failing, hub, publications):
    push(publications, hub, failing, 500)
    hub.failures.clear()
    del hub.requests[:]
    code, said = end(publications)
    assert (code, "NOT PUSHED" in said) == (0, False)
    assert set(hub.files("me/gcscoop")) == {*ADAPTER_FILES, "README.md"}
    assert all("gcscoop" in path or "/api/models/" not in path for _, path in hub.requests)


def test_the_same_command_pushes_only_what_is_missing(hub, publications):
    """As a second call, or a call for more seeds, finds the runs finished."""
    push(publications, hub, COMMIT, 403)
    hub.failures.clear()
    del hub.requests[:]
    again = [Publication(each.directory, each.repository, hub.token) for each in publications]
    push(again, hub, "nothing", 403)
    assert push_missing(again) == []
    commits = [path for method, path in hub.requests if method == "POST" and "/commit/" in path]
    assert commits == ["/api/models/me/gcscoop/commit/main"]


def test_a_failure_that_passes_is_no_failure(hub, publications, caplog):
    hub.fail(CREATION, 500, 2)
    publications[0].push()
    assert publications[0].failure is None
    assert "Trying again" in caplog.text
    assert set(hub.files("me/coop")) == {*ADAPTER_FILES, "README.md"}
