"""transformers' pipelines on prompted models: the right names, and the template that was trained with."""

import numpy as np
import pytest
import torch
from inference.dense_adapters import KINDS
from peft import get_peft_model
from PIL import Image
from transformers import AutoImageProcessor, pipeline
from tuners import vision_models
from tuners.clip_models import make_model

from hf_sharp_prompt import CLIPPromptConfig, ViTPromptConfig
from hf_sharp_prompt.data.segmentation import SegmentationImageProcessor
from hf_sharp_prompt.demo import VIT_PATH


FLOWERS, PETS = ["rose", "tulip", "daisy"], ["cat", "dog"]


@pytest.fixture
def model(clip):
    """A CLIP that knows flowers by one adapter and pets by another."""
    return get_peft_model(clip, CLIPPromptConfig(num_text_tokens=2)).eval()


@pytest.mark.parametrize("template", ["{}.", "a photo of a {}, a type of flower.", "{{curly}} {} {braces}"])
def test_a_zero_shot_pipeline_takes_the_trained_template(
    template, model, tokenizer, image_processor, images, pixel_values
):
    """Its own template behind the learned context is not what was trained, and measures worse without a word."""
    model.set_classes(FLOWERS, tokenizer, template)
    classify = pipeline(
        "zero-shot-image-classification",
        model=model.get_base_model(),
        tokenizer=tokenizer,
        image_processor=image_processor,
        hypothesis_template=model.hypothesis_template,
    )
    found = [{each["label"]: each["score"] for each in of_image} for of_image in classify(images, FLOWERS)]
    expected = model(pixel_values=pixel_values).logits.softmax(-1).detach()
    torch.testing.assert_close(
        torch.tensor([[of_image[name] for name in FLOWERS] for of_image in found]), expected, rtol=0, atol=1e-6
    )


def test_an_image_classification_pipeline_names_the_classes_of_a_clip(model, tokenizer, image_processor, images):
    own = model.config.id2label
    model.set_classes(FLOWERS, tokenizer)
    classify = pipeline("image-classification", model=model.get_base_model(), image_processor=image_processor)
    assert {each["label"] for each in classify(images[0])} == {*FLOWERS}
    model.add_adapter("pets", CLIPPromptConfig(num_text_tokens=2))
    model.set_adapter("pets")
    model.set_classes(PETS, tokenizer)
    assert {each["label"] for each in classify(images[0])} == {*PETS}
    model.set_adapter("default")
    assert {each["label"] for each in classify(images[0])} == {*FLOWERS}
    assert model.unload().config.id2label == own


def test_an_image_classification_pipeline_names_the_classes_of_the_head_that_answers():
    """The base model has three classes of its own; an adapter may have fewer or more."""
    model = get_peft_model(
        vision_models.make_model("ViTForImageClassification"), ViTPromptConfig.vpt_deep(class_names=PETS)
    )
    own = {*vision_models.make_model("ViTForImageClassification").config.id2label.values()}
    model.add_adapter("flowers", ViTPromptConfig.vpt_deep(class_names=[*FLOWERS, "lily", "iris", "poppy"]))
    processor = AutoImageProcessor.from_pretrained(VIT_PATH, size={"height": 24, "width": 24})
    classify = pipeline("image-classification", model=model.get_base_model(), image_processor=processor, top_k=10)
    image = Image.new("RGB", (24, 24))
    assert {each["label"] for each in classify(image)} == {*PETS}
    model.set_adapter("flowers")
    assert {each["label"] for each in classify(image)} == {*FLOWERS, "lily", "iris", "poppy"}
    with model.disable_adapter():
        assert {each["label"] for each in classify(image)} == own
    model.set_adapter("default")
    assert {each["label"] for each in classify(image)} == {*PETS}


@pytest.mark.parametrize("name", ["OwlViTForObjectDetection", "Owlv2ForObjectDetection"])
@pytest.mark.parametrize("template", ["{}.", "a {} {b}."])
def test_a_zero_shot_detection_pipeline_finds_what_the_adapter_finds(name, template):
    """It has no template of its own, so labels are given as the texts that were trained with."""
    model = get_peft_model(make_model(name), CLIPPromptConfig(num_text_tokens=2)).eval()
    processor, image = KINDS[name](), Image.effect_noise((64, 40), 90).convert("RGB")
    model.set_classes(FLOWERS, processor, template)
    find = pipeline(
        "zero-shot-object-detection",
        model=model.get_base_model(),
        tokenizer=processor.tokenizer,
        image_processor=processor.image_processor,
    )
    texts = {model.hypothesis_template.format(each): each for each in FLOWERS}
    found = find(image, candidate_labels=[*texts], threshold=0.0)
    with torch.no_grad():
        scores = model(**processor(images=image, return_tensors="pt")).logits[0].sigmoid()
    for label, expected in zip(FLOWERS, scores.unbind(-1), strict=True):
        of_label = torch.tensor([each["score"] for each in found if texts[each["label"]] == label])
        assert len(of_label) == len(expected), "every patch is asked for every label"
        torch.testing.assert_close(of_label.sort().values, expected.sort().values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["CLIPSegForImageSegmentation", "CLIPModel"])
def test_an_image_segmentation_pipeline_has_a_mask_for_each_class(name):
    """CLIPSeg's and CLIP's own image processors have no post-processing, so the pipeline refuses their models."""
    config = CLIPPromptConfig(num_text_tokens=2, task="image-segmentation")
    model = get_peft_model(make_model(name), config).eval()
    processor, image = KINDS[name](), Image.effect_noise((64, 40), 90).convert("RGB")
    model.set_classes(FLOWERS, processor)
    refusing = pipeline("image-segmentation", model=model.get_base_model(), image_processor=processor.image_processor)
    with pytest.raises(ValueError, match="is not supported for model"):
        refusing(image)
    background = model.comparison.knows_background
    segment = pipeline(
        "image-segmentation",
        model=model.get_base_model(),
        image_processor=SegmentationImageProcessor(processor, background),
    )
    found = {each["label"]: np.asarray(each["mask"]) for each in segment(image)}
    assert found.keys() <= {*FLOWERS, *(["background"] if background else [])}
    assert (sum(mask > 0 for mask in found.values()) == np.ones((40, 64))).all()
