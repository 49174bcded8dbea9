"""Cards wherever an adapter is saved or pushed: trained, loaded, converted, or made in a loop of one's own."""

import logging
import math
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import yaml
from hub.client import connect
from hub.local_hub import LocalHub
from huggingface_hub import ModelCard
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from transformers import AutoProcessor, CLIPModel
from transformers.trainer_utils import HubStrategy

import hf_sharp_prompt
from hf_sharp_prompt import CLIPPromptConfig, SharpPromptTrainer, SharpPromptTrainingArguments
from hf_sharp_prompt.cards import CURVE_NAME, pictures
from hf_sharp_prompt.cards.history import History, read_history
from hf_sharp_prompt.cards.versions import installed_versions
from hf_sharp_prompt.cards.writing import PNG, history_of
from hf_sharp_prompt.convert import adapter_from_checkpoint
from hf_sharp_prompt.data import ImageFeatures
from hf_sharp_prompt.demo import CLIP_PATH
from hf_sharp_prompt.experiments.publishing import copy_published


NAMES = ["red heart", "blue star"]


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[LocalHub]:
    with LocalHub() as hub:
        connect(hub, tmp_path / "home", monkeypatch)
        yield hub


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(CLIP_PATH)


def load_clip() -> CLIPModel:
    return CLIPModel.from_pretrained(CLIP_PATH)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory, processor) -> SharpPromptTrainer:
    """A Trainer that has trained two epochs and measured base and novel images in each."""
    model = get_peft_model(load_clip(), CLIPPromptConfig.coop())
    model.set_classes(NAMES, processor)
    data = ImageFeatures(torch.randn(8, 1, 128), torch.arange(8) % 2, NAMES)
    args = SharpPromptTrainingArguments(
        str(tmp_path_factory.mktemp("trained") / "pets"), report_to="none",
        num_train_epochs=2, eval_strategy="epoch", logging_steps=1,
        save_strategy="epoch", sharpness="gcsam", objectives=["kgcoop"], dataset_name="me/photos", disable_tqdm=True,
    )  # fmt: skip
    trainer = SharpPromptTrainer(
        model, args, train_dataset=data, eval_dataset={"base": data, "novel": data},
        compute_metrics=lambda output: {"accuracy": 0.5, "ece": 0.25},
    )  # fmt: skip
    trainer.train()
    return trainer


def body(card: str) -> str:
    """What a reader sees."""
    return re.sub(r"<!--.*?-->", "", card.split("---", 2)[2], flags=re.DOTALL)


def test_the_card_tells_what_was_seen(trainer):
    trainer.save_model()
    card = Path(trainer.args.output_dir, "README.md").read_text()
    for part in (
        "# CoOp + GCSAM + KgCoOp for the demo's CLIP on me/photos, 4 shots\n",
        "| data | me/photos (8 training images, 4 of each class) |",
        "| hardware | CPU (",
        "| time of training | ",
        "| harmonic mean of base and novel accuracy | 0.5000 |",
        "| 2 | 2 | ",
        "When last logged, at step 2: loss ",
        "cos(g, g_p)",
        "| V2 | photo (0.00), ",
        "@misc{zhou2022learning,",
        "@misc{liu2024gradient,",
        "@misc{yao2023visual,",
        "- python 3.",
    ):
        assert part in body(card), part
    results = {(each.dataset_split, each.metric_type): each.metric_value for each in ModelCard(card).data.eval_results}
    assert results == {
        (half, metric): value for half in ("base", "novel") for metric, value in (("accuracy", 0.5), ("ece", 0.25))
    }


def test_the_card_is_as_complete_after_loading(trainer, tmp_path, hub):
    """Most people train today, and push tomorrow."""
    trainer.create_model_card(license="mit")
    trainer.model.save_pretrained(tmp_path / "saved")
    first = (tmp_path / "saved" / "README.md").read_text()
    assert body(first).replace("saved", "pets") == body(Path(trainer.args.output_dir, "README.md").read_text())
    loaded = PeftModel.from_pretrained(load_clip(), tmp_path / "saved")
    loaded.push_to_hub("me/from-disk")
    again = PeftModel.from_pretrained(load_clip(), "me/from-disk")
    again.push_to_hub("me/from-hub")
    for name in ("me/from-disk", "me/from-hub"):
        assert body(hub.files(name)["README.md"].decode()) == body(first).replace('base, "saved"', f'base, "{name}"')
    assert str(tmp_path) not in hub.files("me/from-hub")["adapter_config.json"].decode()


def test_the_curve_is_beside_the_card_and_pushed_with_it(trainer, tmp_path, hub):
    """A card that is loaded and pushed again draws it again."""
    trainer.save_model()
    assert Path(trainer.args.output_dir, CURVE_NAME).read_bytes().startswith(PNG)
    PeftModel.from_pretrained(load_clip(), trainer.args.output_dir).push_to_hub("me/pets")
    files = hub.files("me/pets")
    assert f"0.500]({CURVE_NAME})" in files["README.md"].decode()
    assert files[CURVE_NAME].startswith(PNG)
    copy_published(Path(trainer.args.output_dir), tmp_path)
    assert (tmp_path / CURVE_NAME).is_file()


def test_without_matplotlib_the_table_is_there_alone(trainer, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    trainer.save_model(str(tmp_path))
    assert not (tmp_path / CURVE_NAME).exists()
    card = (tmp_path / "README.md").read_text()
    assert CURVE_NAME not in card
    assert "| epoch | step | base\\_accuracy | novel\\_accuracy |" in card


def test_a_curve_of_anybodys_words_is_drawn(tmp_path):
    """A card from the Hub is anybody's text: its names are no formulas, and its numbers may be none."""
    rows = [{"epoch": 1, "$x_{": math.nan, "_b\n](c)": 1e300}, {"step": 2, "$x_{": math.inf, "_b\n](c)": 0.5}]
    pictures.write_pictures(History(curve=rows), tmp_path)
    assert (tmp_path / CURVE_NAME).is_file()
    assert "\n" not in pictures.curve_in_words(rows)
    assert "b \\](c)" in pictures.curve_in_words(rows)
    pictures.write_pictures(History(curve=rows[:1]), tmp_path / "missing")


def test_the_card_knows_its_package_where_nothing_is_installed(monkeypatch):
    """A checkout on the path has no metadata to ask."""
    monkeypatch.setattr("importlib.metadata.Distribution.from_name", Mock(side_effect=PackageNotFoundError))
    assert installed_versions()["hf-sharp-prompt"] == hf_sharp_prompt.__version__


def test_a_converted_adapter_says_where_it_is_from(tmp_path, hub):
    torch.save({"state_dict": {"ctx": torch.randn(4, 128)}}, tmp_path / "model.pth.tar-50")
    adapter_from_checkpoint(tmp_path / "model.pth.tar-50", tmp_path / "pets-coop", CLIP_PATH)
    PeftModel.from_pretrained(load_clip(), tmp_path / "pets-coop").push_to_hub("me/pets-coop")
    for card in ((tmp_path / "pets-coop" / "README.md").read_text(), hub.files("me/pets-coop")["README.md"].decode()):
        assert "# CoOp for the demo's CLIP\n" in card
        assert "| converted from | model.pth.tar-50 |" in card
        assert "No evaluation is recorded." in card
        assert "[More Information Needed]" not in card
        assert yaml.safe_load(card.split("---")[1])["library_name"] == "peft"


def test_the_code_of_the_card_runs_as_it_stands(trainer, monkeypatch, capsys):
    monkeypatch.chdir(Path(trainer.args.output_dir).parent)
    Image.new("RGB", (60, 40), "red").save("photo.jpg")
    torch.save({"state_dict": {"ctx": torch.randn(4, 128)}}, "model.pth.tar-50")
    adapter_from_checkpoint("model.pth.tar-50", "deep/without-names", CLIP_PATH)
    trainer.save_model()
    for adapter, names in (("pets", NAMES), ("deep/without-names", ["a class", "another"])):
        (code,) = re.findall(r"```python\n(.*?)```", Path(adapter, "README.md").read_text(), re.DOTALL)
        assert f'PeftModel.from_pretrained(base, "{adapter}")' in code
        exec(code, namespace := {})
        assert sorted(namespace["scores"]) == sorted(names)
        assert capsys.readouterr().out.startswith(tuple(names))


def test_checkpoints_have_no_card_unless_they_are_pushed(trainer, tmp_path, hub, monkeypatch):
    """A card takes longer than all the rest of a checkpoint, and only the run itself reads most of these."""
    checkpoint = Path(trainer.args.output_dir, "checkpoint-2")
    assert (checkpoint / "adapter_model.safetensors").is_file()
    assert not (checkpoint / "README.md").exists()
    monkeypatch.setattr(trainer.args, "hub_strategy", HubStrategy.ALL_CHECKPOINTS)
    monkeypatch.setattr(trainer.args, "hub_token", hub.token)
    monkeypatch.setattr(trainer, "hub_model_id", None)
    monkeypatch.setattr(trainer, "push_in_progress", None, raising=False)
    trainer.push_checkpoint(checkpoint)
    trainer.finish_push()
    files = hub.files("me/pets")
    assert 'PeftModel.from_pretrained(base, "me/pets")' in files["README.md"].decode()
    card = files["checkpoint-2/README.md"].decode()
    assert 'PeftModel.from_pretrained(base, "me/pets", subfolder="checkpoint-2")' in card


def test_an_adapter_of_another_name_is_loaded_from_its_folder(tmp_path):
    model = get_peft_model(load_clip(), CLIPPromptConfig.coop(), adapter_name="pets")
    model.save_pretrained(tmp_path / "out")
    assert 'PeftModel.from_pretrained(base, "out", subfolder="pets")' in (tmp_path / "out" / "README.md").read_text()
    PeftModel.from_pretrained(load_clip(), tmp_path / "out", subfolder="pets")


def test_a_card_that_was_written_by_hand_stays(tmp_path, hub):
    model = get_peft_model(load_clip(), CLIPPromptConfig.coop())
    (tmp_path / "README.md").write_text("My own words.")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "My own words."
    model.push_to_hub("me/pets")
    ModelCard("---\nlicense: mit\n---\nMy own words.").push_to_hub("me/pets", token=hub.token)
    model.push_to_hub("me/pets")
    assert "My own words." in hub.files("me/pets")["README.md"].decode()
    ModelCard("---\nlicense: mit\n---\n").push_to_hub("me/pets", token=hub.token)
    model.push_to_hub("me/pets")
    card = ModelCard(hub.files("me/pets")["README.md"].decode())
    assert (card.data.license, "# CoOp for" in card.text) == ("mit", True)


def test_other_methods_of_peft_keep_their_cards(tmp_path):
    get_peft_model(load_clip(), LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path)
    assert "[More Information Needed]" in (tmp_path / "README.md").read_text()


def test_nothing_in_the_record_of_a_training_gets_out_of_its_comment():
    evil = ["--> <script>", "a\n---\nb", "</td> --!>", "`{{ 7*7 }}`"]
    comment = History(dataset=evil, results={"loss": -1e-05}).as_comment()
    assert comment.count("-->") == 1
    assert "<script" not in comment
    assert "\n" not in comment
    assert read_history(f"# A card\n\n{comment}\n") == History(dataset=evil, results={"loss": -1e-05})


@pytest.mark.parametrize("record", ["{]}", '{"results": {"accuracy": "<b>"}}', '{"new": 1}', '{"dataset": "x"}'])
def test_a_damaged_record_is_left_out_with_a_warning(record, tmp_path, caplog):
    """A card from the Hub is anybody's text."""
    get_peft_model(load_clip(), CLIPPromptConfig.coop()).save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text(f"<!-- hf_sharp_prompt {record} -->")
    loaded = PeftModel.from_pretrained(load_clip(), tmp_path)
    with caplog.at_level(logging.WARNING):
        assert history_of(loaded) == History()
    assert "its record of the training cannot be read" in caplog.text
