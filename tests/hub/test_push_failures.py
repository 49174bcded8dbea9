"""Whatever the Hub does to a request of a push: a message, whole local files, and a second try that succeeds."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub.client import without_waiting
from hub.local_hub import LocalHub
from huggingface_hub import get_session
from support.rotation import rotate
from training.small_runs import make_trainer

from hf_sharp_prompt import SharpPromptTrainer
from hf_sharp_prompt import hub as our_hub
from hf_sharp_prompt.training.push import PushError


REQUESTS = {
    "creation": "POST /api/repos/create",
    "branch": "POST /api/models/.*/branch/",
    "card": "POST /api/validate-yaml",
    "plan": "POST /api/models/.*/preupload/",
    "commit": "POST /api/models/.*/commit/",
}
FAILURES = [401, 403, 404, 409, 429, 500, 503, "hang", "drop"]
OFTEN = 200  # more often than anything asks


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[LocalHub]:
    with without_waiting(tmp_path / "home", monkeypatch) as hub:
        monkeypatch.setattr(our_hub, "PATIENCE", 0.05)
        yield hub


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> SharpPromptTrainer:
    return make_trainer(tmp_path_factory.mktemp("runs") / "pets")


@pytest.fixture
def trainer(trained, hub, monkeypatch) -> SharpPromptTrainer:
    monkeypatch.setattr(trained, "hub_model_id", None)
    monkeypatch.setattr(trained, "push_in_progress", None, raising=False)
    monkeypatch.setattr(trained.args, "hub_token", hub.token)
    monkeypatch.setattr(trained.args, "hub_revision", "v2")
    return trained


BEFORE_THE_COMMIT = [name for name in REQUESTS if name != "commit"]


@pytest.mark.parametrize(
    ("request_", "failure"), [*rotate(["commit"], FAILURES), *rotate(BEFORE_THE_COMMIT, FAILURES)]
)
def test_every_request_may_fail(request_, failure, trainer, hub, capsys, caplog):
    hub.fail(REQUESTS[request_], failure, OFTEN, {"Retry-After": "2"} if failure == 429 else None)
    with caplog.at_level(logging.DEBUG), pytest.raises(PushError) as error:
        trainer.push_to_hub()
    said = str(error.value)
    assert "stays in " in said
    if isinstance(failure, int) and not (failure == 409 and request_ in ("creation", "branch")):
        assert re.search(rf"the Hub answered {failure} \(This failure was asked for\.\) to POST ", said), said
    assert {"adapter_model.safetensors", "README.md"} <= {
        path.name for path in Path(trainer.args.output_dir).iterdir()
    }
    assert not list(Path(trainer.args.output_dir).parent.glob(".*.unfinished"))
    hub.failures.clear()
    trainer.push_to_hub()
    assert "adapter_model.safetensors" in hub.files("me/pets", "v2")
    captured = capsys.readouterr()
    assert hub.token not in said + caplog.text + captured.out + captured.err


def test_the_hub_is_asked_again_when_it_wants_to_be(trainer, hub, monkeypatch):
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    hub.fail(REQUESTS["creation"], 429, 1, {"Retry-After": "20"})
    trainer.push_to_hub()
    assert max(waited) == 20
    hub.fail(REQUESTS["branch"], 429, 1, {"Retry-After": "86400"})
    with pytest.raises(PushError, match="the Hub answered 429"):
        trainer.push_to_hub()


def test_other_requests_of_the_process_may_take_their_time(trainer, hub):
    trainer.push_to_hub()
    assert get_session().timeout.read is None
