"""The arguments of a run: what identifies it."""

import dataclasses
import json

import pytest

from hf_sharp_prompt import SharpPromptTrainingArguments
from hf_sharp_prompt.training.arguments import CHOOSING_THE_BEST, NOT_IDENTIFYING


def identity(output_dir, **arguments):
    return SharpPromptTrainingArguments(str(output_dir), use_cpu=True, report_to="none", **arguments).identity()


OTHER_RUNS = {
    "m_sharpness": "micro_batch",
    "rho_schedule": "cosine",
    "loss": "gcl",
    "reweighting_beta": 0.99,
    "train_sampling_strategy": "class_balanced",
    "class_counts": [3, 2],
    "data_seed": 7,
    "sharpness_args": {"rho": 0.3},
    "objectives": ["kgcoop"],
    "lr_scheduler_type": "cosine",
    "dataloader_drop_last": True,
    "load_best_model_at_end": True,
}


@pytest.mark.parametrize("name", OTHER_RUNS)
def test_what_changes_a_run_identifies_it(name, tmp_path):
    """Two different runs must not count as one, or the second is never trained."""
    both = {"eval_strategy": "epoch", "save_strategy": "epoch"}
    assert identity(tmp_path, **both) != identity(tmp_path, **both, **{name: OTHER_RUNS[name]})


def test_subspace_identifies_a_run(tmp_path):
    subspaces = ({}, {"subspace_epochs": 3, "subspace_rank": 1}, {"subspace_epochs": 3, "subspace_rank": 2})
    identities = [identity(tmp_path, **arguments) for arguments in subspaces]
    assert all(identities.count(each) == 1 for each in identities)


def test_what_cannot_change_a_run_does_not_identify_it(tmp_path):
    """A run may be continued in another directory, with other workers and other logs."""
    elsewhere = identity(
        tmp_path / "other",
        logging_steps=3,
        save_steps=7,
        eval_strategy="epoch",
        dataloader_num_workers=2,
        hub_token="secret",
        per_device_eval_batch_size=3,
        dataset_name="pets",
    )
    assert elsewhere == identity(tmp_path)


def test_what_the_best_is_chosen_from_identifies_a_run_that_chooses_it(tmp_path):
    chosen = {"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "steps"}
    assert identity(tmp_path, **chosen, eval_steps=2, save_steps=2) != identity(
        tmp_path, **chosen, eval_steps=4, save_steps=4
    )


def test_objectives_identify_a_run_however_they_are_written(tmp_path):
    ways = ("kgcoop", ["kgcoop"], {"kgcoop": None}, '["kgcoop"]')
    assert len({json.dumps(identity(tmp_path, objectives=way)) for way in ways}) == 1


def test_identity_is_what_json_gives_back(tmp_path):
    """It is written beside a run and compared with what is read."""
    found = identity(tmp_path, lr_scheduler_type="cosine", sharpness="imbsam", sharpness_args={"tail_classes": (1, 2)})
    assert found == json.loads(json.dumps(found))
    assert found["lr_scheduler_type"] == "cosine"
    assert found["sharpness_args"] == {"tail_classes": [1, 2]}


def test_only_arguments_are_left_out_of_the_identity():
    """A name that transformers no longer has would be left out in vain."""
    fields = {field.name for field in dataclasses.fields(SharpPromptTrainingArguments)}
    assert {*NOT_IDENTIFYING, *CHOOSING_THE_BEST} <= fields
