"""What is shipped in model_cards/ is what the package writes."""

import re
from pathlib import Path

import pytest
from peft import PeftModel
from PIL import Image
from transformers import CLIPModel

from hf_sharp_prompt.cards import history_of, model_card
from hf_sharp_prompt.cards.card import TEMPLATE
from hf_sharp_prompt.cards.writing import PNG
from hf_sharp_prompt.demo import CLIP_PATH


FOLDER = Path(__file__).parents[2] / "model_cards"
SHIPPED = sorted(path.parent.name for path in FOLDER.glob("*/adapter_config.json"))


def test_the_template_and_two_adapters_are_there():
    assert (FOLDER / "template.md").read_text() == TEMPLATE.read_text(encoding="utf-8")
    assert SHIPPED == ["demo-gcscoop", "demo-vpt"]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_card_is_as_it_would_be_written_today_and_its_code_runs(name, tmp_path, monkeypatch):
    card = (FOLDER / name / "README.md").read_text()
    model = PeftModel.from_pretrained(CLIPModel.from_pretrained(CLIP_PATH), FOLDER / name)
    assert str(model_card(model, history_of(model), model_id=f"model_cards/{name}")) == card, (
        "Run scripts/make_model_cards.py again."
    )
    (tmp_path / "model_cards").symlink_to(FOLDER)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (48, 48), "red").save("photo.jpg")
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    exec(code, namespace := {})
    assert set(namespace["scores"]) == set(model.active_config.class_names)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_card_shows_its_curve(name):
    """The table of twenty epochs does not show at once where novel classes were lost."""
    (alt, file) = re.search(r"!\[(.+)\]\((.+)\)", (FOLDER / name / "README.md").read_text()).groups()
    assert re.fullmatch(r"base accuracy goes from 0\.\d+ to 0\.\d+, novel accuracy goes from .+", alt)
    picture = FOLDER / name / file
    assert picture.read_bytes().startswith(PNG)
    assert picture.stat().st_size < 40_000
