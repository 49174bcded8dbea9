"""The shipped CLIP is a stock checkpoint that knows its world, and a command remakes it."""

import pretrain_clip
import pytest
import torch
from captions import Caption
from PIL import Image
from safetensors import safe_open
from torch.nn.functional import normalize
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    HfArgumentParser,
    pipeline,
)

from hf_sharp_prompt.demo import CLIP_PATH, CLIPSEG_PATH, OWLVIT_PATH, UNFAMILIAR_TASKS, VIT_PATH
from hf_sharp_prompt.demo.shapes import SHAPES
from hf_sharp_prompt.demo.textures import TEXTURES
from hf_sharp_prompt.demo.world import COLOURS, Scene, render


STAR = Scene(colour="red", texture="plain", shape="star", backdrop="white", size="large", style="photo")


@pytest.fixture(scope="module")
def clip() -> CLIPModel:
    return CLIPModel.from_pretrained(CLIP_PATH).eval()


@pytest.fixture(scope="module")
def processor() -> CLIPProcessor:
    return AutoProcessor.from_pretrained(CLIP_PATH)


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return AutoTokenizer.from_pretrained(CLIP_PATH)


@pytest.mark.parametrize("path", [CLIP_PATH, VIT_PATH, OWLVIT_PATH, CLIPSEG_PATH], ids=lambda path: path.name)
def test_a_shipped_checkpoint_is_small(path):
    assert sum(file.stat().st_size for file in path.iterdir()) < 6e6


def test_weights_are_stored_in_half_and_loaded_in_single_precision(clip):
    with safe_open(CLIP_PATH / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    assert {parameter.dtype for parameter in clip.parameters()} == {torch.float32}
    assert 1e6 < clip.num_parameters() < 3e6


def test_model_and_tokenizer_agree_on_special_tokens(clip, tokenizer):
    """A wrong end token makes CLIP read the text's feature at the wrong place."""
    text = clip.config.text_config
    assert isinstance(tokenizer, CLIPTokenizer)
    assert (text.bos_token_id, text.eos_token_id) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert text.pad_token_id == tokenizer.pad_token_id
    assert text.vocab_size == len(tokenizer)
    assert text.max_position_embeddings == tokenizer.model_max_length == 77


def test_padding_does_not_change_a_text(clip, tokenizer):
    with torch.no_grad():
        short = clip.get_text_features(**tokenizer(["a red star"], return_tensors="pt")).pooler_output
        padded = tokenizer(["a red star"], padding="max_length", return_tensors="pt")
        torch.testing.assert_close(clip.get_text_features(**padded).pooler_output, short, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("word", [*SHAPES, *TEXTURES, *COLOURS])
def test_a_word_of_the_world_is_one_token(tokenizer, word):
    assert len(tokenizer(word)["input_ids"]) == 3


@pytest.mark.parametrize("text", ["zebra crossing", "naïve cafés", "東京タワー", "🙂", "quokka_7"])
def test_any_text_has_a_spelling(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids[1:-1]
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")


def test_images_reach_the_model_as_they_were_drawn(processor):
    image = render([STAR], [(0, 0)])[0]
    pixels = processor.image_processor(Image.fromarray(image), return_tensors="pt")["pixel_values"][0]
    mean, std = (torch.tensor(getattr(processor.image_processor, name)) for name in ("image_mean", "image_std"))
    expected = (torch.from_numpy(image) / 255 - mean) / std
    torch.testing.assert_close(pixels, expected.permute(2, 0, 1), rtol=1e-5, atol=1e-5)


def test_the_stock_pipeline_names_what_it_sees():
    classify = pipeline("zero-shot-image-classification", model=str(CLIP_PATH))
    image = Image.fromarray(render([STAR], [(0, 0)])[0])
    names = ["red star", "blue heart", "green moon", "yellow circle"]
    answer = classify(image, candidate_labels=names, hypothesis_template="a photo of a {}.")
    assert answer[0]["label"] == "red star"


@pytest.mark.parametrize("task", UNFAMILIAR_TASKS.values(), ids=UNFAMILIAR_TASKS.keys())
def test_zero_shot_leaves_room_on_both_sides(clip, processor, task):
    """Below 25 % prompts would have nothing to start from, above 75 % nothing to gain."""
    images, labels = task.images("test", per_class=6)
    labels = torch.tensor(labels)
    prompts = [task.template.format(name) for name in task.classes]
    texts = processor.tokenizer(prompts, padding=True, return_tensors="pt")
    with torch.no_grad():
        pixels = processor.image_processor(list(images), return_tensors="pt")["pixel_values"]
        image_features = clip.get_image_features(pixel_values=pixels).pooler_output
        text_features = normalize(clip.get_text_features(**texts).pooler_output, dim=-1)
    logits = image_features @ text_features.T
    half = (len(task.classes) + 1) // 2
    base = labels < half
    base_accuracy = (logits[base, :half].argmax(1) == labels[base]).float().mean()
    novel_accuracy = (logits[~base, half:].argmax(1) == labels[~base] - half).float().mean()
    assert 0.25 <= base_accuracy <= 0.75
    assert 0.25 <= novel_accuracy <= 0.75


def test_a_caption_true_of_another_image_is_no_negative_for_it():
    """Otherwise training would push "a star" away from every other star of the batch."""
    heart = Scene(colour="red", texture="plain", shape="heart", backdrop="white", size="large", style="photo")
    captions = [Caption("a red thing", {"colour": "red"}), Caption("a heart", {"shape": "heart"})]
    true = pretrain_clip.true_pairs(captions, [STAR, heart])
    assert true.tolist() == [[True, False], [True, True]]
    logits = torch.tensor([[2.0, 1.0], [9.0, 3.0]])
    # "a red thing" is true of the heart as well, so the score 9 counts nowhere.
    expected = (torch.tensor(-1.0).exp().log1p() + torch.tensor(-2.0).exp().log1p()) / 4
    torch.testing.assert_close(pretrain_clip.contrastive_loss(logits, true), expected)


def test_pretraining_makes_a_loadable_checkpoint(tmp_path):
    output = tmp_path / "clip"
    output.mkdir()
    (output / "stale.txt").write_text("from an earlier run")
    command = f"--output {output} --steps 3 --batch_size 16 --vision_layers 1 --text_layers 1"
    pretrain_clip.main(
        HfArgumentParser(pretrain_clip.PretrainArguments).parse_args_into_dataclasses(command.split())[0]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]
    assert not (output / "stale.txt").exists()
    model, processor = CLIPModel.from_pretrained(output), AutoProcessor.from_pretrained(output)
    batch = processor(text=["a star"], images=[Image.new("RGB", (64, 64))], return_tensors="pt")
    assert model(**batch).logits_per_image.isfinite().all()
