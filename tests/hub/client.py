"""This process as a client of a `LocalHub`, as if it had been started with `LocalHub.environment`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import huggingface_hub
import pytest
import transformers.utils.hub
from hub.local_hub import LocalHub
from huggingface_hub import constants, hf_api


@contextmanager
def without_waiting(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A Hub that this process pushes to and loads from, trying again without waiting, with the cache in `home`."""
    with LocalHub() as hub:
        connect(hub, home, monkeypatch)
        monkeypatch.setattr("time.sleep", lambda _: None)
        yield hub


def connect(hub: LocalHub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log in to `hub`, with the cache in `home`, until the test ends.

    The libraries read the environment once, when they are imported, so that what they keep of it is replaced, too.
    `examples/test_run_base2novel.py` has the same libraries in a process of its own, as users have them.
    """
    monkeypatch.setenv("HF_TOKEN", hub.token)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("NO_PROXY", "*")
    huggingface_hub.close_session()  # its next one reads NO_PROXY
    for name, value in {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(hf_api.api, "endpoint", hub.endpoint)
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)  # it is made when it is needed
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.endpoint)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
