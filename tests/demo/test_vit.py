"""The shipped ViT is a stock checkpoint with general features, and a command remakes it."""

import pretrain_clip
import pretrain_vit
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch.nn.functional import cross_entropy
from transformers import AutoImageProcessor, HfArgumentParser, ViTForImageClassification, ViTModel, pipeline

from hf_sharp_prompt.demo import LONG_TAIL_TASK, VIT_PATH
from hf_sharp_prompt.demo.world import Scene, render


STAR = Scene(colour="red", texture="plain", shape="star", backdrop="white", size="large", style="photo")


@pytest.fixture(scope="module")
def vit() -> ViTForImageClassification:
    return ViTForImageClassification.from_pretrained(VIT_PATH).eval()


@pytest.fixture(scope="module")
def processor():
    return AutoImageProcessor.from_pretrained(VIT_PATH)


def test_weights_are_stored_in_half_and_loaded_in_single_precision(vit):
    with safe_open(VIT_PATH / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    assert {parameter.dtype for parameter in vit.parameters()} == {torch.float32}
    assert 1e6 < vit.num_parameters() < 2e6


def test_images_reach_the_model_as_they_were_drawn(processor):
    image = render([STAR], [(0, 0)])[0]
    pixels = processor(Image.fromarray(image), return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(pixels, torch.from_numpy(image).permute(2, 0, 1) / 127.5 - 1, rtol=1e-5, atol=1e-5)


def test_the_stock_pipeline_names_what_it_sees():
    classify = pipeline("image-classification", model=str(VIT_PATH), function_to_apply="none")
    answers = classify(Image.fromarray(render([STAR], [(0, 0)])[0]), top_k=5)
    assert {"shape star", "colour red"} <= {answer["label"] for answer in answers}


def test_the_shipped_model_is_of_the_size_that_the_command_makes(vit):
    assert vit.num_parameters() == pretrain_vit.build_model(pretrain_vit.ViTPretrainArguments()).num_parameters()
    words = [f"{name} {word}" for name, words in pretrain_vit.WORDS.items() for word in words]
    assert [vit.config.id2label[number] for number in range(len(words))] == words


def test_its_features_are_useful_for_the_long_tailed_task_and_leave_room(vit, processor):
    """On balanced images, 12 a class: below half there is nothing to build on, above 85 % nothing to gain."""

    def features(split: str) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = LONG_TAIL_TASK.images(split, per_class=12)
        with torch.no_grad():
            hidden = vit.vit(**processor(list(images), return_tensors="pt")).last_hidden_state
        return hidden[:, 0], torch.tensor(labels)

    (seen, labels), (unseen, true) = features("train"), features("test")
    probe = torch.nn.Linear(seen.shape[1], len(LONG_TAIL_TASK.classes))
    optimizer = torch.optim.LBFGS(probe.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = cross_entropy(probe(seen), labels) + 1e-3 * probe.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    assert 0.5 < (probe(unseen).argmax(1) == true).float().mean() < 0.85


def test_a_word_competes_with_those_of_its_own_kind():
    """Otherwise telling the colour would push the shape's logits down."""
    torch.manual_seed(0)
    logits = torch.randn(2, sum(len(words) for words in pretrain_vit.WORDS.values()), dtype=torch.float64)
    right = pretrain_vit.targets([STAR, STAR])
    words = {"shape": "star", "texture": "plain", "colour": "red", "backdrop": "white", "size": "large"}
    expected, start = 0.0, 0
    for number, (name, of_kind) in enumerate(pretrain_vit.WORDS.items()):
        assert of_kind[right[0, number]] == words[name]
        expected += cross_entropy(logits[:, start : start + len(of_kind)], right[:, number])
        start += len(of_kind)
    torch.testing.assert_close(pretrain_vit.naming_loss(logits, right), expected)


def test_pretraining_makes_a_loadable_checkpoint(tmp_path):
    command = f"--output {tmp_path / 'vit'} --steps 3 --batch_size 16 --layers 1"
    pretrain_vit.main(
        HfArgumentParser(pretrain_vit.ViTPretrainArguments).parse_args_into_dataclasses(command.split())[0]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["vit"]
    model = ViTModel.from_pretrained(tmp_path / "vit", add_pooling_layer=False)
    pixels = AutoImageProcessor.from_pretrained(tmp_path / "vit")(Image.new("RGB", (64, 64)), return_tensors="pt")
    assert model(**pixels).last_hidden_state.isfinite().all()


@pytest.mark.parametrize("arguments", [pretrain_clip.PretrainArguments, pretrain_vit.ViTPretrainArguments])
def test_what_remakes_the_checkpoints_explains_its_arguments(arguments):
    """A percent sign in a help text ends `--help` in a TypeError."""
    assert "warm-up" in HfArgumentParser(arguments).format_help()
