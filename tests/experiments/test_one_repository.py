"""All adapters of a command in one repository, a folder for each: as people share the seeds of a paper."""

import re

import huggingface_hub
import pytest
from hub.client import without_waiting
from huggingface_hub import ModelCard
from peft import PeftModel
from transformers import CLIPModel

from hf_sharp_prompt import SharpPromptTrainingArguments
from hf_sharp_prompt.demo import CLIP_PATH
from hf_sharp_prompt.experiments import base_to_novel


ONE = ["--seeds", "1", "2", "--push_to_hub", "--hub_model_id", "me/demo", "--hub_subfolder", "base2novel"]
FOLDERS = [f"base2novel/photos/coop/seed{seed}" for seed in (1, 2)]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with without_waiting(tmp_path / "home", monkeypatch) as hub:
        yield hub


def test_seeds_share_a_private_repository_and_load_from_their_folders(run, hub, tmp_path):
    hub.fail("POST /api/models/.*/commit/", 403)  # The first seed's; the other goes on, and the end tries again.
    run(base_to_novel, "--dataset", "photos", "--hub_private_repo", "true", *ONE)
    assert list(hub.repositories) == ["me/demo"]
    assert hub.repositories["me/demo"].private
    files = hub.files("me/demo")
    base = CLIPModel.from_pretrained(CLIP_PATH)
    for seed, folder in enumerate(FOLDERS, 1):
        assert f'"me/demo", subfolder="{folder}")' in files[f"{folder}/README.md"].decode()
        here = tmp_path / "out" / "photos" / "coop" / f"seed{seed}" / "adapter_model.safetensors"
        assert files[f"{folder}/adapter_model.safetensors"] == here.read_bytes()
    PeftModel.from_pretrained(base, "me/demo", subfolder=FOLDERS[1])
    card = ModelCard(files["README.md"].decode())
    assert "prompt-collection" in card.data.tags
    assert "| coop |" in re.sub(" +", " ", card.text)
    assert f"PeftModel.from_pretrained(base, 'me/demo', subfolder='{FOLDERS[0]}')" in card.text
    assert str(tmp_path) not in str(card)
    hub.requests.clear()
    huggingface_hub.metadata_update("me/demo", {"license": "mit"}, token=hub.token)
    run(base_to_novel, "--dataset", "photos", *ONE)
    assert hub.files("me/demo").keys() == files.keys()


def test_a_card_of_ones_own_stays_at_the_top(run, hub, caplog):
    huggingface_hub.create_repo("me/demo")
    ModelCard("---\nlicense: mit\n---\nMy own words.").push_to_hub("me/demo")
    run(base_to_novel, "--dataset", "photos", *ONE[:2], *ONE[3:])
    assert "My own words." in hub.files("me/demo")["README.md"].decode()
    assert f"{FOLDERS[0]}/README.md" in hub.files("me/demo")


@pytest.mark.parametrize("folder", ["../up", "/root", "a//b", "a b", ""])
def test_what_is_no_folder_of_a_repository_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="hub_subfolder must name a folder of the repository"):
        SharpPromptTrainingArguments(str(tmp_path), hub_subfolder=folder)
