"""The shipped OWL-ViT is a stock checkpoint that finds what it is asked for, and a command remakes it."""

from dataclasses import replace

import pretrain_owlvit
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from scene_batches import SceneBatch, make_batch
from transformers import (
    AutoProcessor,
    CLIPModel,
    HfArgumentParser,
    OwlViTForObjectDetection,
    OwlViTProcessor,
    pipeline,
)
from transformers.image_transforms import center_to_corners_format

from hf_sharp_prompt.demo import CLIP_PATH, DEFAULT_SCENE_TASK, OWLVIT_PATH, SCENE_TASKS
from hf_sharp_prompt.demo.scenes import find_boxes, render_objects
from hf_sharp_prompt.demo.world import Scene


STAR = Scene(colour="red", texture="plain", shape="star", backdrop="white", size="large", style="photo")
HEART = Scene(colour="blue", texture="plain", shape="heart", backdrop="white", size="large", style="photo")


@pytest.fixture(scope="module")
def owlvit() -> OwlViTForObjectDetection:
    return OwlViTForObjectDetection.from_pretrained(OWLVIT_PATH).eval()


@pytest.fixture(scope="module")
def processor() -> OwlViTProcessor:
    return AutoProcessor.from_pretrained(OWLVIT_PATH)


def overlap(one, other) -> float:
    """The intersection over union of two boxes, each left, top, right, bottom."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def test_weights_are_stored_in_half_and_loaded_in_single_precision(owlvit):
    with safe_open(OWLVIT_PATH / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    assert {parameter.dtype for parameter in owlvit.parameters()} == {torch.float32}


def test_its_text_tower_is_clips(owlvit, processor):
    """So what is known of CLIP's texts, such as which prompts suit them, holds for this model as well."""
    clip = CLIPModel.from_pretrained(CLIP_PATH).eval()
    texts = processor(text=["a photo of a striped ring", "a red star"], return_tensors="pt")
    with torch.no_grad():
        own = owlvit.owlvit.get_text_features(**texts).pooler_output
        torch.testing.assert_close(own, clip.get_text_features(**texts).pooler_output, rtol=1e-3, atol=1e-3)


def test_images_reach_the_model_as_they_were_drawn(processor):
    image = render_objects([(STAR,)], [(0, 0)])[0][0]
    pixels = processor(images=Image.fromarray(image), return_tensors="pt")["pixel_values"][0]
    mean, std = (torch.tensor(getattr(processor.image_processor, name)) for name in ("image_mean", "image_std"))
    expected = (torch.from_numpy(image) / 255 - mean) / std
    torch.testing.assert_close(pixels, expected.permute(2, 0, 1), rtol=1e-5, atol=1e-5)


def test_the_stock_pipeline_finds_each_of_two_objects():
    detect = pipeline("zero-shot-object-detection", model=str(OWLVIT_PATH))
    images, visible = render_objects([(STAR, HEART)], [(3, 1)])
    names = ["a photo of a red star", "a photo of a blue heart"]
    found = detect(Image.fromarray(images[0]), candidate_labels=names, threshold=0.05)
    for name, (left, top, width, height) in zip(names, find_boxes(visible[0], 2).tolist()):
        best = max((each for each in found if each["label"] == name), key=lambda each: each["score"])
        assert overlap(list(best["box"].values()), (left, top, left + width, top + height)) > 0.5


def test_zero_shot_leaves_room_on_both_sides(owlvit, processor):
    """In a held-out style, objects are found and named far more often than by chance, and far from always."""
    task = replace(SCENE_TASKS[DEFAULT_SCENE_TASK], objects_per_class={"few": 7})
    images, visible, labels = task.scenes("few")
    texts = processor.tokenizer(
        [task.template.format(name) for name in task.classes], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        queries = owlvit.owlvit.get_text_features(**texts).pooler_output
        pixels = processor.image_processor(list(images), return_tensors="pt")["pixel_values"]
        grid, _ = owlvit.image_embedder(pixels)
        patches = grid.flatten(1, 2)
        logits, _ = owlvit.class_predictor(patches, queries.expand(len(patches), -1, -1))
        boxes = owlvit.box_predictor(patches, grid)
    found = total = 0
    for image, of_image in enumerate(labels):
        truth = find_boxes(visible[image], len(of_image)).tolist()
        scores = logits[image].amax(1)
        for label, (left, top, width, height) in zip(of_image, truth):
            # The most certain patch at the object: does it name the object's class?
            box = (left, top, left + width, top + height)
            corners = center_to_corners_format(boxes[image] * 72).tolist()
            near = [patch for patch, corner in enumerate(corners) if overlap(corner, box) > 0.5]
            total += 1
            if near:
                best = max(near, key=lambda patch: scores[patch])
                found += int(logits[image, best].argmax()) == label
    assert 0.25 < found / total < 0.95


def test_a_caption_that_is_true_of_two_objects_is_asked_of_both():
    """Else "a star" would be pushed away from every star of the batch but one."""
    true = torch.tensor([[True, False], [True, True]])
    boxes = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.75, 0.75, 0.5, 0.5]])
    batch = SceneBatch(torch.empty(0), torch.empty(0), torch.tensor([0, 0]), boxes, None, true, [])
    right = torch.tensor([[[9.0, -9.0], [9.0, 9.0], [-9.0, -9.0]]])
    predicted = torch.cat([boxes, torch.full((1, 4), 0.1)])[None]
    assert pretrain_owlvit.detection_loss(right, predicted, batch) < 1e-3
    wrong = right.clone()
    wrong[0, 1, 0] = -9
    assert pretrain_owlvit.detection_loss(wrong, predicted, batch) > 1


def test_a_batch_tells_where_each_object_is():
    batch = make_batch(0, range(6), pretrain_owlvit.build_processor())
    assert len(batch.texts) == len(batch.boxes) == len(batch.image_of) == len(batch.true)
    assert batch.true.diagonal().all()
    for number, image in enumerate(batch.image_of):
        rows, columns = (batch.visible[image] == number).nonzero(as_tuple=True)
        extent = [int(edge) for edge in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]
        assert (72 * center_to_corners_format(batch.boxes[number])).tolist() == pytest.approx(extent, abs=1e-3)


def test_pretraining_makes_a_loadable_checkpoint(tmp_path):
    command = f"--output {tmp_path / 'owlvit'} --steps 2 --batch_size 4"
    parser = HfArgumentParser(pretrain_owlvit.OwlViTPretrainArguments)
    assert "warm-up" in parser.format_help()
    pretrain_owlvit.main(parser.parse_args_into_dataclasses(command.split())[0])
    model = OwlViTForObjectDetection.from_pretrained(tmp_path / "owlvit")
    inputs = AutoProcessor.from_pretrained(tmp_path / "owlvit")(
        text=[["a star", "a heart"]], images=[Image.new("RGB", (64, 90))], return_tensors="pt"
    )
    output = model(**inputs)
    assert output.logits.shape == (1, 81, 2)
    assert output.pred_boxes.isfinite().all()
