"""OWL-ViT and OWLv2 with prompts: their class and box heads, their loss, and transformers' own ways to call them."""

from itertools import permutations, product

import pytest
import torch
from peft import PeftModel, get_peft_model
from PIL import Image
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import Owlv2ImageProcessor, OwlViTImageProcessor, pipeline
from transformers.image_transforms import center_to_corners_format
from tuners.clip_models import clip_tokenizer, make_model, text_inputs

from hf_sharp_prompt import CLIPPromptConfig
from hf_sharp_prompt.tuners.detection_loss import detection_loss, match


DETECTORS = ["OwlViTForObjectDetection", "Owlv2ForObjectDetection"]
NAMES = ["red star", "cat", "blue heart"]
IGNORED, NO_OBJECT = -100, -1


def pixels(images: int = 3, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(images, 3, 48, 48, generator=torch.Generator().manual_seed(1), dtype=dtype)


def prompted(name: str, dtype: torch.dtype = torch.float64, **fields) -> PeftModel:
    torch.manual_seed(2)
    model = get_peft_model(make_model(name, dtype), CLIPPromptConfig(**{"num_text_tokens": 3, **fields}))
    model.set_classes(NAMES, clip_tokenizer())
    return model.to(dtype).eval()


def targets(dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    """Three images: two objects, none, and one object."""
    return {
        "labels": torch.tensor([[0, 2], [NO_OBJECT, IGNORED], [1, IGNORED]]),
        "boxes": torch.tensor(
            [[[0.3, 0.4, 0.2, 0.3], [0.7, 0.6, 0.4, 0.4]], [[0.0] * 4] * 2, [[0.5, 0.5, 0.6, 0.2], [0.0] * 4]],
            dtype=dtype,
        ),
    }


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"num_vision_tokens": 2, "vision_depth": 2},
        {
            "design": "maple",
            "text_init": None,
            "num_text_tokens": 2,
            "text_depth": 2,
            "num_vision_tokens": 2,
            "vision_depth": 2,
        },
        {"class_token_position": "front"},
    ],
    ids=["coop", "ivlp", "maple", "front"],
)
def test_classes_are_scored_as_the_stock_call_scores_their_texts(name, fields):
    """Otherwise an adapter that was trained here would do something else in transformers' own pipelines."""
    model = prompted(name, **fields)
    texts = text_inputs(name, NAMES)
    per_image = {key: value.repeat(3, 1) for key, value in texts.items()}
    with torch.no_grad():
        ours = model(pixel_values=pixels())
        stock = model.get_base_model()(pixel_values=pixels(), **per_image)
        without = model.classify(pixel_values=pixels(), adapter="__base__")
        plain = make_model(name, torch.float64)(pixel_values=pixels(), **per_image)
    torch.testing.assert_close(ours.logits.float(), stock.logits, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.pred_boxes, stock.pred_boxes, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(without.logits.float(), plain.logits, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(without.pred_boxes, plain.pred_boxes, rtol=1e-12, atol=1e-12)
    assert (ours.logits - without.logits).abs().max() > 1e-3, "the prompts take part"
    assert model.active_peft_config.task == "object-detection"


def slow_focal(logit: torch.Tensor, target: float) -> torch.Tensor:
    p = logit.sigmoid()
    weight, miss = (0.3, 1 - p) if target else (0.7, p)
    return weight * miss**2 * binary_cross_entropy_with_logits(logit, torch.full_like(logit, target))


def slow_distances(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The L1 distance and the generalised IoU of two boxes."""
    (a, b), (c, d) = (center_to_corners_format(each).split(2) for each in (one, other))
    inside = (torch.minimum(b, d) - torch.maximum(a, c)).clamp(min=0).prod()
    union = (b - a).prod() + (d - c).prod() - inside
    hull = (torch.maximum(b, d) - torch.minimum(a, c)).prod()
    return (one - other).abs().sum(), inside / union - (hull - union) / hull


def slow_loss_of_image(z, found, row, sought):
    """The loss of one image by the paper's words, matched by trying all ways."""
    objects = [place for place, label in enumerate(row.tolist()) if label >= 0]

    def cost(chosen):
        result = 0.0
        for prediction, place in zip(chosen, objects, strict=True):
            logit = z[prediction, row[place]]
            distance, overlap = slow_distances(found[prediction], sought[place])
            result += float(slow_focal(logit, 1.0) - slow_focal(logit, 0.0) + distance - overlap)
        return result

    total, best = 0.0, min(permutations(range(len(z)), len(objects)), key=cost)
    goals = {(prediction, int(row[place])) for prediction, place in zip(best, objects, strict=True)}
    for prediction, c in product(range(z.shape[0]), range(z.shape[1])):
        total += slow_focal(z[prediction, c], float((prediction, c) in goals))
    for prediction, place in zip(best, objects, strict=True):
        distance, overlap = slow_distances(found[prediction], sought[place])
        total += distance + 1 - overlap
    return total


def slow_loss(logits, pred_boxes, labels, boxes):
    images = [each for each in zip(logits, pred_boxes, labels, boxes, strict=True) if (each[2] != IGNORED).any()]
    return sum(slow_loss_of_image(*each) for each in images) / int((labels != IGNORED).sum())


class TestTheLoss:
    def test_it_is_the_least_matching_then_focal_l1_and_giou(self):
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(4, 5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
        found = torch.rand(4, 5, 4, generator=generator, dtype=torch.float64) * 0.5 + 0.1
        found.requires_grad_()
        labels = torch.tensor([[0, 2, 2], [NO_OBJECT, IGNORED, IGNORED], [1, IGNORED, 0], [IGNORED] * 3])
        boxes = torch.rand(4, 3, 4, generator=generator, dtype=torch.float64) * 0.5 + 0.1
        ours = torch.autograd.grad(loss := detection_loss(logits, found, labels, boxes), (logits, found))
        expected = torch.autograd.grad(slow := slow_loss(logits, found, labels, boxes), (logits, found))
        torch.testing.assert_close(loss, slow, rtol=1e-12, atol=1e-12)
        for one, other in zip(ours, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)

    def test_two_objects_of_one_place_get_two_predictions(self):
        """Otherwise one of them would never be learned."""
        logits = torch.zeros(1, 4, 2)
        boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2]] * 2])
        _, predictions, objects = match(logits, torch.rand(1, 4, 4), torch.tensor([[0, 1]]), boxes)
        assert len({*predictions.tolist()}) == 2
        assert sorted(objects.tolist()) == [0, 1]

    def test_more_objects_than_predictions_are_not_an_error(self):
        labels, boxes = torch.zeros(1, 5, dtype=torch.long), torch.rand(1, 5, 4) * 0.3 + 0.1
        assert detection_loss(torch.zeros(1, 2, 3), torch.rand(1, 2, 4), labels, boxes).isfinite()

    @pytest.mark.parametrize("name", DETECTORS)
    def test_parts_of_a_batch_add_up_to_it(self, name):
        model, batch = prompted(name), {"pixel_values": pixels(), **targets()}
        whole = model(**batch).loss
        parts = [
            model(**{key: value[rows] for key, value in batch.items()}, num_items_in_batch=torch.tensor(4)).loss
            for rows in (slice(0, 1), slice(1, 3))
        ]
        torch.testing.assert_close(sum(parts), whole, rtol=1e-12, atol=1e-12)

    def test_an_ignored_image_adds_nothing_and_an_empty_one_is_background(self):
        model, batch = prompted(DETECTORS[0]), {"pixel_values": pixels(), **targets()}
        ignored = {**batch, "labels": batch["labels"].index_fill(0, torch.tensor([1]), IGNORED)}
        without = {key: value[[0, 2]] for key, value in batch.items()}
        torch.testing.assert_close(model(**ignored).loss, model(**without).loss, rtol=1e-12, atol=1e-12)
        assert model(**batch, num_items_in_batch=3).loss > model(**ignored, num_items_in_batch=3).loss

    @pytest.mark.parametrize(
        ("labels", "boxes", "words"),
        [
            (torch.tensor([[3], [0], [0]]), torch.rand(3, 1, 4), "Label 3 of an object is not among the 3 classes"),
            (torch.tensor([[-2], [0], [0]]), torch.rand(3, 1, 4), "Label -2 of an object"),
            (torch.tensor([0, 1, 2]), torch.rand(3, 4), "batch × most objects"),
            (torch.tensor([[0], [0], [0]]), torch.rand(3, 2, 4), "batch × most objects × 4"),
            (torch.tensor([[0], [0], [0]]), None, "give boxes"),
        ],
    )
    def test_wrong_targets_are_refused_in_a_sentence(self, labels, boxes, words):
        with pytest.raises(ValueError, match=words):
            prompted(DETECTORS[0])(pixel_values=pixels(), labels=labels, boxes=boxes)


@pytest.mark.parametrize("name", DETECTORS)
class TestFrozenImages:
    def test_features_of_images_stand_for_them(self, name):
        model, given = prompted(name), targets()
        features = model.encode_images(pixel_values=pixels())
        assert model.sees_images_frozen
        expected, seen = model(pixel_values=pixels(), **given), model(image_features=features, **given)
        torch.testing.assert_close(seen.loss, expected.loss, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(seen.pred_boxes, expected.pred_boxes)

    def test_only_vision_tokens_move_boxes(self, name):
        """With frozen images the boxes come from the frozen head, and only their classes are learned."""
        text, vision = prompted(name), prompted(name, num_vision_tokens=2)
        assert not text(pixel_values=pixels(), **targets()).pred_boxes.requires_grad
        vision(pixel_values=pixels(), **targets()).loss.backward()
        assert not vision.sees_images_frozen
        tokens = [each for key, each in vision.named_parameters() if "vision_tokens" in key]
        assert tokens
        assert all(each.grad.abs().sum() > 0 for each in tokens)

    def test_a_head_that_trains_is_seen(self, name):
        """Otherwise the features that it makes would be kept, and it would learn nothing."""
        assert not prompted(name, modules_to_save=["class_head"]).sees_images_frozen


def test_a_context_conditioned_on_images_is_refused():
    with pytest.raises(ValueError, match="conditional shifts the context by the feature of a whole image"):
        prompted(DETECTORS[0], design="cocoop")


@pytest.mark.parametrize("name", DETECTORS)
def test_the_zero_shot_pipeline_finds_the_same_objects(name):
    """Transformers' own pipeline reads the texts behind the learned context, and needs nothing of this package."""
    model = prompted(name, torch.float32)
    processors = {"OwlViTForObjectDetection": OwlViTImageProcessor, "Owlv2ForObjectDetection": Owlv2ImageProcessor}
    processor = processors[name](size={"height": 48, "width": 48})
    detect = pipeline(
        "zero-shot-object-detection",
        model=model.get_base_model(),
        tokenizer=clip_tokenizer(),
        image_processor=processor,
    )
    image = Image.effect_noise((60, 60), 80).convert("RGB")
    found = detect(image, candidate_labels=NAMES, threshold=0.0)
    with torch.no_grad():
        ours = model(pixel_values=processor(image, return_tensors="pt")["pixel_values"])
    for label, class_name in enumerate(NAMES):
        scores = [each["score"] for each in found if each["label"] == class_name]
        expected = ours.logits[0, :, label].sigmoid().sort(descending=True).values
        torch.testing.assert_close(torch.tensor(scores), expected, rtol=1e-4, atol=1e-6)
    best = max(found, key=lambda each: each["score"])
    patch = int(ours.logits[0, :, NAMES.index(best["label"])].argmax())
    centre_x, centre_y, width, height = (60 * ours.pred_boxes[0, patch]).tolist()
    assert best["box"]["xmin"] == pytest.approx(centre_x - width / 2, abs=1)
    assert best["box"]["ymax"] == pytest.approx(centre_y + height / 2, abs=1)


def test_a_saved_adapter_finds_the_same_objects(tmp_path):
    model = prompted(DETECTORS[0])
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_model(DETECTORS[0], torch.float64), tmp_path).double().eval()
    with torch.no_grad():
        assert torch.equal(loaded(pixel_values=pixels()).logits, model(pixel_values=pixels()).logits)
    assert loaded.active_peft_config.task == "object-detection"


def test_another_task_than_the_models_is_refused():
    with pytest.raises(ValueError, match="can be prompted for, which is 'object-detection'"):
        prompted(DETECTORS[0], task="image-segmentation")


@pytest.mark.parametrize(("name", "side"), [(DETECTORS[0], 48), ("CLIPSegForImageSegmentation", 32)])
def test_one_class_is_enough_where_background_is_beside_it(name, side):
    """Whoever looks for dogs alone should be able to."""
    model = get_peft_model(make_model(name), CLIPPromptConfig(num_text_tokens=2)).eval()
    model.set_classes(["dog"], clip_tokenizer())
    assert 1 in model(pixel_values=torch.rand(2, 3, side, side)).logits.shape
    with pytest.raises(ValueError, match="At least one class is needed, got"):
        model.set_classes([], clip_tokenizer())
