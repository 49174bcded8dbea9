"""A collection on the Hub gathers the repositories of a command: recipes × seeds, as people share a study."""

import pytest
from hub.client import without_waiting

from hf_sharp_prompt.experiments import base_to_novel
from hf_sharp_prompt.experiments.failures import FAILED
from hf_sharp_prompt.experiments.methods import parse_methods


PUSH = ["--dataset", "photos", "--recipes", "coop", "coop_sam", "--seeds", "1", "2", "--push_to_hub"]
COLLECT = ["--hub_collection", "Prompts for photos", "--hub_private_repo", "true"]
REPOSITORIES = [f"me/study-photos-{method}-seed{seed}" for method in ("coop", "coop_sam") for seed in (1, 2)]
NAMED = ["--hub_model_id", "me/study"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with without_waiting(tmp_path / "home", monkeypatch) as hub:
        yield hub


def test_every_recipe_and_seed_has_a_repository_in_the_collection(run, hub, tmp_path, capsys):
    """A failure costs the other repositories nothing, is told, and is mended by the same command."""
    hub.fail("POST /api/collections/.*/items", 403)
    words = ["--output_dir", str(tmp_path / "out"), "--max_steps", "1", "--use_cpu", "--save_strategy", "no"]
    assert base_to_novel.main([*words, *PUSH, *NAMED, *COLLECT]) == FAILED
    (said,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("NOT PUSHED")]
    assert "the collection 'Prompts for photos': the Hub answered 403 (This failure was asked for.) to POST" in said
    assert list(hub.repositories) == REPOSITORIES
    assert all({"README.md", "adapter_model.safetensors"} <= hub.files(name).keys() for name in REPOSITORIES)
    assert base_to_novel.main([*words, *PUSH, *NAMED, *COLLECT]) == 0
    ((slug, collection),) = hub.collections.items()
    assert slug.startswith("me/prompts-for-photos-")
    assert (collection.title, collection.private, collection.items) == ("Prompts for photos", True, REPOSITORIES)

    hub.requests.clear()
    one = [*NAMED, "--hub_subfolder", "all", *COLLECT]
    assert base_to_novel.main([*words, *PUSH, *one]) == 0
    assert collection.items == [*REPOSITORIES, "me/study"], "what was in it stays, and nothing is in it twice"
    folders = {path.rpartition("/")[0] for path in hub.files("me/study")} - {""}
    assert folders == {f"all/photos/{method}/seed{seed}" for method in ("coop", "coop_sam") for seed in (1, 2)}


def test_there_is_nothing_to_gather_where_nothing_is_pushed():
    with pytest.raises(ValueError, match="give --push_to_hub, too"):
        parse_methods(base_to_novel.argument_groups(), "", ["--use_cpu", "--recipes", "coop", *COLLECT])
