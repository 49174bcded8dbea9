"""What docs/exports.md and docs/serving.md show runs as it stands, on the small CLIP."""

import contextlib
import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoProcessor, CLIPConfig, CLIPModel
from tuners.coop import NAMES, prompted

from hf_sharp_prompt import __main__ as command_line


DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def here(checkpoint: str, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the adapters of the pages, on a CLIP of one layer, which exports in seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    config = CLIPConfig.from_pretrained(checkpoint)
    config.text_config.num_hidden_layers = config.vision_config.num_hidden_layers = 1
    CLIPModel.from_pretrained(checkpoint, config=config).save_pretrained("clip")
    AutoProcessor.from_pretrained(checkpoint).save_pretrained("clip")
    for name, count in (("pets", 4), ("flowers", 2)):
        model = prompted(CLIPModel.from_pretrained("clip"), num_text_tokens=count)
        model.set_classes(NAMES, tokenizer, "{}.")
        model.save_pretrained(f"adapters/{name}")
    return tmp_path


def test_every_block_on_exports_finds_the_same_class(here, images):
    """The three files are the same classifier, so the blocks print the same name."""
    (command,) = [line for block in blocks("exports.md", "bash") for line in block.splitlines() if "export" in line]
    words = command.split()[1:]
    assert command_line.run([*words, "head", "transformers"]) == 0
    printed = []
    for block in blocks("exports.md", "python"):
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(block, {"image": images[0]})
        printed.append(output.getvalue().splitlines())
    (of_head,), (of_graph, of_others), (of_pipeline,) = printed
    assert of_head == of_graph == of_pipeline
    assert of_head in NAMES
    assert of_others in ("beagle", "pug", "a very fluffy cat")


def test_the_block_on_serving_runs(here, images):
    (block,) = blocks("serving.md", "python")
    namespace: dict[str, Any] = {"images": images[:2]}
    exec(block.replace('"openai/clip-vit-base-patch16"', '"clip"'), namespace)
    beagle_or_pug, rose_or_tulip = namespace["answers"]
    assert beagle_or_pug in ("beagle", "pug")
    assert rose_or_tulip in ("rose", "tulip")
