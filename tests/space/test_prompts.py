"""What the page's prompts answer, and which adapters can be asked."""

import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from PIL import Image
from transformers import AutoModel, AutoProcessor, pipeline

from hf_sharp_prompt import CLIPPromptConfig, ViTPromptConfig
from hf_sharp_prompt.demo import CLIP_PATH
from hf_sharp_prompt.inference.in_order import Unread
from hf_sharp_prompt.space import prompts as module
from hf_sharp_prompt.space.prompts import ComparedPrompts


NAMES = ["black heart", "a ring", "blue star"]
TEMPLATE = "a drawing of a {}."


def images_of(space: Path) -> list[Path]:
    return sorted((space / "images").iterdir())


def test_the_hand_written_prompt_is_zero_shot_clip(space, prompts):
    """Otherwise the page compares learned prompts with something that nobody would use."""
    (answer,) = prompts.compare(prompts.read(images_of(space)), NAMES, TEMPLATE, [])
    processor = AutoProcessor.from_pretrained(CLIP_PATH)
    stock = pipeline(
        "zero-shot-image-classification",
        model=AutoModel.from_pretrained(CLIP_PATH),
        tokenizer=processor.tokenizer,
        image_processor=processor.image_processor,
        device="cpu",
    )
    found = stock(list(map(str, images_of(space))), candidate_labels=NAMES, hypothesis_template=TEMPLATE)
    shares = [{each["label"]: each["score"] for each in of_image} for of_image in found]
    expected = torch.tensor([[of_image[name] for name in NAMES] for of_image in shares])
    torch.testing.assert_close(answer.probabilities, expected, rtol=1e-4, atol=1e-5)
    assert (answer.prompt, answer.method) == ("hand-written", TEMPLATE)


def test_a_learned_prompt_answers_as_its_adapter_does(space, prompts):
    _, *answers = prompts.compare(prompts.read(images_of(space)), NAMES, TEMPLATE, ["gcscoop", "coop"])
    assert [answer.prompt for answer in answers] == ["gcscoop", "coop"]
    processor = AutoProcessor.from_pretrained(CLIP_PATH)
    pixels = processor(images=list(map(Image.open, images_of(space))), return_tensors="pt")["pixel_values"]
    for answer in answers:
        adapter = space / "adapters" / answer.prompt
        model = PeftModel.from_pretrained(AutoModel.from_pretrained(CLIP_PATH), adapter).eval()
        model.set_classes(NAMES, processor, template="{}.")
        with torch.no_grad():
            expected = model(pixel_values=pixels).logits.softmax(-1)
        torch.testing.assert_close(answer.probabilities, expected, rtol=1e-4, atol=1e-5)


def test_the_shipped_prompts_know_more_images_than_the_hand_written_one(space, prompts):
    """The page's first impression: the images are of a style that CLIP has never seen."""
    names = prompts.configs["coop"].class_names
    answers = prompts.compare(prompts.read(images_of(space)), names, "a photo of a {}.", ["coop"])
    truth = [path.stem.replace("_", " ") for path in images_of(space)]
    right = [
        sum(names[row.argmax()] == name for row, name in zip(each.probabilities, truth, strict=True))
        for each in answers
    ]
    assert right[1] > right[0]


def test_batches_and_progress_do_not_show_in_the_answers(space, prompts, monkeypatch):
    pixels = prompts.read(images_of(space))
    whole = prompts.compare(pixels, NAMES, TEMPLATE, ["coop"])
    told = []
    monkeypatch.setattr(module, "BATCH_SIZE", 4)
    parts = prompts.compare(pixels, NAMES, TEMPLATE, ["coop"], lambda *numbers: told.append(numbers))
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one.probabilities, other.probabilities)
    assert told == [(4, 12), (6, 12), (10, 12), (12, 12)]


def test_an_unreadable_image_is_named_without_its_folder(prompts, tmp_path):
    """Whoever opens a public page need not know where the server keeps what is uploaded."""
    (tmp_path / "broken.png").write_bytes(b"no image")
    (read,) = prompts.read([tmp_path / "broken.png"])
    assert isinstance(read, Unread)
    assert read.reason.startswith("The image broken.png cannot be decoded")


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"class_names": ["one"]}, "Classification needs at least two classes"),
        (
            {"class_names": [f"class {number}" for number in range(1001)]},
            "At most 1000 classes are compared, got 1001",
        ),
        ({"template": "a photo"}, "template must contain {} exactly once"),
        ({"learned": ["maple"]}, "There is no learned prompt 'maple'; there are coop, gcscoop."),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(asked, sentence, space, prompts):
    question = {"class_names": NAMES, "template": TEMPLATE, "learned": ["coop"], **asked}
    with pytest.raises(ValueError, match=sentence):
        prompts.compare(prompts.read(images_of(space)[:1]), **question)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (ViTPromptConfig(class_names=["ring", "star"]), "cannot be asked for others, as the page does"),
        (CLIPPromptConfig(class_specific=True, class_names=["ring", "star"]), "cannot be asked for others"),
        (CLIPPromptConfig(task="object-detection"), "is for the task 'object-detection', but the page classifies"),
    ],
)
def test_adapters_that_the_page_cannot_ask_are_refused(config, sentence, tmp_path):
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        ComparedPrompts({"mine": tmp_path}, str(CLIP_PATH))


def test_every_adapter_is_checked_before_it_is_loaded(space, tmp_path):
    """The second adapter comes from the Hub as much as the first."""
    shutil.copytree(space / "adapters" / "coop", tmp_path / "bad")
    config = tmp_path / "bad" / "adapter_config.json"
    config.write_text(config.read_text().replace('"num_text_tokens": 4', '"num_text_tokens": 5'))
    with pytest.raises(ValueError, match="does not fit its own config"):
        ComparedPrompts({"good": space / "adapters" / "coop", "bad": tmp_path / "bad"}, str(CLIP_PATH))


def test_a_base_model_that_cannot_be_loaded_is_named(space, tmp_path):
    with pytest.raises(ValueError, match=f"The base model {tmp_path} cannot be loaded; give the directory or Hub id"):
        ComparedPrompts({"coop": space / "adapters" / "coop"}, str(tmp_path))
