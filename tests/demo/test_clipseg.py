"""The shipped CLIPSeg is a stock checkpoint that outlines what it is asked for, and a command remakes it."""

from dataclasses import replace

import numpy as np
import pretrain_clipseg
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from scene_batches import make_batch
from transformers import AutoProcessor, CLIPSegForImageSegmentation, CLIPSegProcessor, HfArgumentParser

from hf_sharp_prompt.demo import CLIPSEG_PATH, DEFAULT_SCENE_TASK, SCENE_TASKS
from hf_sharp_prompt.demo.scene_tasks import IGNORED, label_pixels
from hf_sharp_prompt.demo.scenes import render_objects
from hf_sharp_prompt.demo.world import Scene


STAR = Scene(colour="red", texture="plain", shape="star", backdrop="white", size="large", style="photo")
HEART = Scene(colour="blue", texture="plain", shape="heart", backdrop="white", size="large", style="photo")


@pytest.fixture(scope="module")
def clipseg() -> CLIPSegForImageSegmentation:
    return CLIPSegForImageSegmentation.from_pretrained(CLIPSEG_PATH).eval()


@pytest.fixture(scope="module")
def processor() -> CLIPSegProcessor:
    return AutoProcessor.from_pretrained(CLIPSEG_PATH)


def test_weights_are_stored_in_half_and_loaded_in_single_precision(clipseg):
    with safe_open(CLIPSEG_PATH / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    assert {parameter.dtype for parameter in clipseg.parameters()} == {torch.float32}


def test_images_reach_the_model_as_they_were_drawn(processor):
    image = render_objects([(STAR,)], [(0, 0)])[0][0]
    pixels = processor(images=Image.fromarray(image), return_tensors="pt")["pixel_values"][0]
    mean, std = (torch.tensor(getattr(processor.image_processor, name)) for name in ("image_mean", "image_std"))
    expected = (torch.from_numpy(image) / 255 - mean) / std
    torch.testing.assert_close(pixels, expected.permute(2, 0, 1), rtol=1e-5, atol=1e-5)


def test_each_of_two_objects_is_outlined_when_it_is_asked_for(clipseg, processor):
    images, visible = render_objects([(STAR, HEART)], [(3, 1)])
    texts = ["a photo of a red star", "a photo of a blue heart"]
    inputs = processor(text=texts, images=[Image.fromarray(images[0])] * 2, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = clipseg(**inputs).logits
    assert logits.shape == (2, 72, 72)
    pixels = torch.from_numpy(visible[0])
    for asked in (0, 1):
        assert logits[asked][pixels == asked].mean() > logits[asked][pixels != asked].mean() + 1
        assert (logits.argmax(0) == asked)[pixels == asked].float().mean() > 0.5


def test_zero_shot_leaves_room_on_both_sides(clipseg, processor):
    """In a held-out style, far more pixels get the right class than by chance, and far from all."""
    task = replace(SCENE_TASKS[DEFAULT_SCENE_TASK], objects_per_class={"few": 4})
    images, visible, labels = task.scenes("few")
    texts = processor.tokenizer(
        [task.template.format(name) for name in task.classes], padding=True, return_tensors="pt"
    )
    pixels = processor.image_processor(list(images), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        features = clipseg.clip.get_text_features(**texts).pooler_output
        logits = torch.stack(
            [
                clipseg(pixel_values=pixels, conditional_embeddings=feature.expand(len(pixels), -1)).logits
                for feature in features
            ]
        )
    truth = np.stack([label_pixels(*pair) for pair in zip(visible, labels)])
    right = (logits.argmax(0).numpy() == truth)[truth != IGNORED].mean()
    assert 0.2 < right < 0.95


def test_half_of_the_captions_are_asked_of_another_image():
    """Else the decoder could outline every object, whatever it is asked for."""
    batch = make_batch(0, range(5), pretrain_clipseg.build_processor())
    images, captions = pretrain_clipseg.pair_up(batch)
    own = batch.image_of[captions] == images
    assert own.float().mean() == 0.5
    assert set(images[~own].tolist()) == set(range(5))


def test_pretraining_makes_a_loadable_checkpoint(tmp_path):
    command = f"--output {tmp_path / 'clipseg'} --steps 2 --batch_size 4"
    parser = HfArgumentParser(pretrain_clipseg.CLIPSegPretrainArguments)
    assert "warm-up" in parser.format_help()
    pretrain_clipseg.main(parser.parse_args_into_dataclasses(command.split())[0])
    model = CLIPSegForImageSegmentation.from_pretrained(tmp_path / "clipseg")
    inputs = AutoProcessor.from_pretrained(tmp_path / "clipseg")(
        text=["a star"], images=[Image.new("RGB", (64, 90))], return_tensors="pt"
    )
    assert model(**inputs).logits.isfinite().all()
