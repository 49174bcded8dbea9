"""What the Hub refuses is said with its remedy."""

import pytest
from hub.client import connect
from hub.local_hub import LocalHub

from hf_sharp_prompt.data import load_image_dataset


def refusal(name: str) -> str:
    with pytest.raises(ValueError, match=name) as refused:
        load_image_dataset(name)
    return str(refused.value)


def test_gated_data_are_told_from_data_that_do_not_exist(tmp_path, monkeypatch):
    """Otherwise the user looks for a wrong name, and does not log in or ask for access."""
    monkeypatch.chdir(tmp_path)
    with LocalHub() as hub:
        hub.gated.add("lab/cells")
        connect(hub, tmp_path / "home", monkeypatch)
        no_access, no_data = refusal("lab/cells"), refusal("lab/none")
        monkeypatch.delenv("HF_TOKEN")
        no_login = refusal("lab/cells")
    page = "lab/cells is a gated data set on the Hub: accept its terms on https://huggingface.co/datasets/lab/cells"
    assert no_access == f"{page}, and wait until access is granted to the account of your token."
    assert no_login == f"{page}, and log in with `hf auth login` or set HF_TOKEN."
    assert no_data.startswith("There is no file, folder, demo task or data set on the Hub 'lab/none'")
    assert f"as a path it was looked for at {tmp_path}/lab/none" in no_data
