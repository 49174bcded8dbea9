"""The card says what was trained, and names from outside stay text."""

import pytest
import torch
import yaml
from hub.client import connect
from hub.local_hub import LocalHub
from peft import PeftModel, get_peft_model
from transformers import AutoProcessor, CLIPModel

from hf_sharp_prompt import CLIPPromptConfig, SharpPromptTrainer, SharpPromptTrainingArguments
from hf_sharp_prompt.cards.card import _classes
from hf_sharp_prompt.cards.escaping import escape
from hf_sharp_prompt.data import ImageFeatures
from hf_sharp_prompt.demo import CLIP_PATH
from hf_sharp_prompt.printable import printable


def make_trainer(tmp_path, names, **arguments) -> SharpPromptTrainer:
    model = get_peft_model(CLIPModel.from_pretrained(CLIP_PATH), CLIPPromptConfig(num_text_tokens=2))
    model.set_classes(names, AutoProcessor.from_pretrained(CLIP_PATH))
    data = ImageFeatures(torch.randn(8, 1, 128), torch.arange(8) % len(names), names)
    args = SharpPromptTrainingArguments(
        str(tmp_path), report_to="none", num_train_epochs=1, eval_strategy="epoch", logging_steps=1, **arguments
    )
    return SharpPromptTrainer(model, args, train_dataset=data, eval_dataset=data)


def test_the_card_says_method_data_results_and_how_to_load(tmp_path):
    trainer = make_trainer(tmp_path, ["red heart", "blue star"], sharpness_args={"rho": 0.3}, dataset_name="me/pets")
    trainer.train()
    trainer.save_model()
    card = (tmp_path / "README.md").read_text()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["library_name"] == "peft"
    assert metadata["pipeline_tag"] == "zero-shot-image-classification"
    assert {"sam", "prompt-learning"} <= set(metadata["tags"])
    eval_loss = trainer.state.log_history[-2]["eval_loss"]
    for part in (
        "SAM(rho=0.3)",
        "me/pets (8 training images, 4 of each class)",
        f"| loss | {eval_loss:.4f} |",
        "red heart, blue star.",
    ):
        assert part in card
    assert f'PeftModel.from_pretrained(base, "{tmp_path.name}")' in card
    assert "[More Information Needed]" not in card


def test_a_base_model_from_the_hub_is_linked(tmp_path):
    """The Hub shows an adapter under its base model only if the metadata names it."""
    trainer = make_trainer(tmp_path, ["a", "b"])
    trainer.train()
    trainer.model.peft_config["default"].base_model_name_or_path = "openai/clip-vit-base-patch16"
    card = trainer.make_card()
    assert card.data.base_model == "openai/clip-vit-base-patch16"
    assert "[openai/clip-vit-base-patch16](https://huggingface.co/openai/clip-vit-base-patch16)" in card.text


def test_names_from_outside_stay_text(tmp_path):
    """A class name from somebody's data set must not become a script, a link or a table in a public page."""
    evil = ["<script>alert(1)</script>", "a | b\n| c |", "[x](javascript:1)", "`{{ 7*7 }}`", "---\nlicense: mit"]
    trainer = make_trainer(tmp_path, evil, dataset_name='"; import os #`\n| <b>')
    trainer.train()
    trainer.save_model()
    card = (tmp_path / "README.md").read_text()
    body = card.split("---", 2)[2]
    assert "<script>" not in body
    assert "<b>" not in body
    assert "\\[x\\](javascript:1)" in body
    assert "49" not in body.split("## Classes")[1].split("###")[0]
    assert "license" not in yaml.safe_load(card.split("---")[1])
    assert escape("a*b_c|d\n#e") == "a\\*b\\_c\\|d \\#e"


def test_plain_training_is_called_so(tmp_path):
    trainer = make_trainer(tmp_path, ["a", "b"], sharpness="none")
    trainer.train()
    assert "custom prompts, plain training" in trainer.make_card().text


def test_model_and_trainer_push_the_card_and_the_prompt(tmp_path, monkeypatch):
    """`model.push_to_hub` and `trainer.push_to_hub` are the two ways people share."""
    with LocalHub() as hub:
        connect(hub, tmp_path / "home", monkeypatch)
        trainer = make_trainer(tmp_path / "pets", ["red heart", "blue star"], sharpness="gcsam")
        trainer.train()
        trainer.push_to_hub()
        trainer.model.push_to_hub("me/from-model")
        features = torch.randn(8, 128)
        expected = trainer.model.eval()(image_features=features).logits
        for name in ("me/pets", "me/from-model"):
            loaded = PeftModel.from_pretrained(CLIPModel.from_pretrained(CLIP_PATH), name).eval()
            assert torch.equal(loaded(image_features=features).logits, expected)
            files = hub.files(name)
            assert {"README.md", "adapter_config.json", "adapter_model.safetensors"} <= set(files)
            assert "GCSAM(rho=0.1, low=0.5, high=0.8)" in files["README.md"].decode()
            assert f'PeftModel.from_pretrained(base, "{name}")' in files["README.md"].decode()
            assert len(files["adapter_model.safetensors"]) < 4096


def test_a_long_list_of_classes_is_cut():
    assert _classes([f"class {index}" for index in range(130)]).endswith("class 99 and 30 more.")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            CLIPPromptConfig.coop(num_text_tokens=3, text_init=None),
            ["CoOp", "3 context tokens", "`[SOS][V1 … V3][text][EOS]`"],
        ),
        (CLIPPromptConfig.cocoop(text_init=None), ["CoCoOp", "shifted by what a meta-net makes of the image"]),
        (
            CLIPPromptConfig.maple(text_init=None, text_depth=2, vision_depth=2),
            ["MaPLe", "2 context tokens in each of the first 2 layers", "vision tokens", "projected from them"],
        ),
        (CLIPPromptConfig.vpt(vision_depth=1), ["VPT", "8 vision tokens"]),
    ],
)
def test_the_card_says_which_design_was_learned(config, words, tmp_path):
    """Whoever loads it should know whether images or texts are changed."""
    model = get_peft_model(CLIPModel.from_pretrained(CLIP_PATH), config)
    model.set_classes(["red heart", "blue star"], AutoProcessor.from_pretrained(CLIP_PATH))
    data = [{"pixel_values": torch.randn(3, 48, 48), "labels": torch.tensor(label)} for label in (0, 1)]
    args = SharpPromptTrainingArguments(str(tmp_path), report_to="none", max_steps=1)
    trainer = SharpPromptTrainer(model, args, train_dataset=data)
    trainer.train()
    card = str(trainer.make_card())
    for each in words:
        assert each in card
    assert ("text is encoded as" in card) == bool(config.num_text_tokens)


def test_a_card_of_subpt_says_so(tmp_path):
    trainer = make_trainer(tmp_path, ["a", "b"], sharpness="none", subspace_epochs=3, subspace_rank=2)
    trainer.args.num_train_epochs = 4
    trainer.train()
    card = trainer.make_card()
    assert "plain training" not in card.text
    assert "SubPT: gradients are projected onto the subspace of rank 2" in card.text
    assert "in 3 early epochs" in card.text
    assert "subpt" in card.data.tags


def test_values_of_enumerations_stand_as_they_are_typed(tmp_path):
    trainer = make_trainer(tmp_path, ["a", "b"], lr_scheduler_type="cosine")
    trainer.train()
    card = trainer.make_card().text
    assert "| lr\\_scheduler\\_type | cosine |" in card or "| lr_scheduler_type | cosine |" in card
    assert "SchedulerType" not in card
    assert "OptimizerNames" not in card


def test_a_package_without_metadata_has_no_version(tmp_path, monkeypatch):
    """As where a checkout is on the path and nothing is installed."""
    monkeypatch.setattr("hf_sharp_prompt.cards.versions.PACKAGES", ("peft", "no-such-package"))
    trainer = make_trainer(tmp_path, ["a", "b"])
    trainer.train()
    assert "- no-such-package of unknown version" in trainer.make_card().text


def test_the_card_of_a_trainer_that_has_not_trained(tmp_path):
    """As when somebody else's adapter is evaluated and published again."""
    trainer = make_trainer(tmp_path, ["a", "b"], sharpness="gcsam")
    trainer.evaluate()
    card = trainer.make_card()
    assert "Nothing is recorded of the adapter's training" in card.text
    assert "GCSAM" not in card.text
    assert "| trained parameters | 256 |" in card.text
    assert "| loss |" in card.text
    assert "gcsam" not in card.data.tags


def test_control_characters_are_shown_and_do_nothing(tmp_path):
    names = ["a\x1b[31mred", "b\u202egnp.exe", "c\x07\x00d"]
    trainer = make_trainer(tmp_path, names, dataset_name="pets\x1b]0;title\x07")
    trainer.train()
    trainer.save_model()
    card = (tmp_path / "README.md").read_text()
    assert not any(character in card for character in "\x1b\x07\x00\u202e")
    assert printable("a\x1b[31m\u202eb\nc") == "a\\x1b[31m\\u202eb\\nc"
    assert printable("Müller 猫 👩‍🚀") == "Müller 猫 👩‍🚀"


def shown(trainer) -> dict[str, str]:
    """The rows of the table of training arguments."""
    rows = trainer.make_card().text.split("## Training")[1].split("## Classes")[0].splitlines()
    return dict(row.replace("\\_", "_").strip("| ").split(" | ") for row in rows if row.startswith("| "))


def test_the_card_shows_what_makes_the_run_another_than_the_default(tmp_path):
    """A hand-kept list once forgot m_sharpness and rho_schedule."""
    changed = {"m_sharpness": "micro_batch", "rho_schedule": "linear", "gradient_accumulation_steps": 2}
    trainer = make_trainer(tmp_path, ["a", "b"], **changed, dataloader_num_workers=0, logging_first_step=True)
    trainer.train()
    rows = shown(trainer)
    assert (rows["m_sharpness"], rows["rho_schedule"]) == ("micro_batch", "linear")
    assert rows["gradient_accumulation_steps"] == "2"
    always = {"learning_rate", "lr_scheduler_type", "num_train_epochs", "optim", "seed", "weight_decay"}
    assert rows.keys() == {*changed, *always, "argument", "total batch size", "precision"}


def test_the_card_shows_no_argument_without_effect(tmp_path):
    trainer = make_trainer(tmp_path, ["a", "b"], max_steps=1, epoch_schedule="cosine")
    trainer.train()
    rows = shown(trainer)
    assert (rows["max_steps"], rows["epoch_schedule"]) == ("1", "cosine")
    assert not {"num_train_epochs", "lr_scheduler_type"} & rows.keys()


def test_a_card_claims_no_published_design_for_a_combination_of_fields(tmp_path):
    trainer = make_trainer(tmp_path, ["a", "b"])
    trainer.train()
    card = trainer.make_card()
    assert "| method | custom prompts, trained along" in card.text
    assert "CoOp" not in card.text
    assert "Learning to Prompt" not in card.text
    assert "custom" not in card.data.tags


def test_a_card_names_the_paper_of_the_design(tmp_path):
    trainer = make_trainer(tmp_path, ["a", "b"])
    trainer.train()
    trainer.model.peft_config["default"].design = "coop"
    card = trainer.make_card()
    assert "2022](https://arxiv.org/abs/2109.01134) |" in card.text
    assert "coop" in card.data.tags
