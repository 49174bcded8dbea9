"""CLIPSeg and dense CLIP with prompts: against the stock models, and slow versions of their equations."""

import numpy as np
import pytest
import torch
from peft import PeftModel, get_peft_model
from PIL import Image
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, interpolate, normalize
from transformers import CLIPSegProcessor, SegformerImageProcessorPil, ViTImageProcessorPil, pipeline
from tuners.clip_models import clip_tokenizer, image_inputs, make_model

from hf_sharp_prompt import CLIPPromptConfig
from hf_sharp_prompt.tuners import pixel_loss as pixel_loss_module
from hf_sharp_prompt.tuners.clip_prompt.comparisons import clipseg
from hf_sharp_prompt.tuners.pixel_loss import pixel_loss


NAMES = ["red star", "cat", "a blue dog"]
PIXELS = image_inputs("CLIPModel", torch.float64)["pixel_values"]
SEGMENTING = "CLIPSegForImageSegmentation"


def prompted(name=SEGMENTING, **fields):
    task = {} if name == SEGMENTING else {"task": "image-segmentation"}
    torch.manual_seed(0)
    model = get_peft_model(
        make_model(name, torch.float64), CLIPPromptConfig(**{"num_text_tokens": 2, **task, **fields})
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.5)
    model.set_classes(NAMES, clip_tokenizer(), "{}.")
    return model.eval()


def labels_of(*, low=-1, size=(48, 48)):
    labels = torch.randint(low, 3, (2, *size))
    labels[0, :5] = -100
    return labels


def stock_logits(model):
    """What the model's own `forward` answers, one text at a time."""
    logits = []
    for name in NAMES:
        texts = clip_tokenizer()([f"{name}."] * len(PIXELS), return_tensors="pt")
        with torch.no_grad():
            logits.append(model.get_base_model()(**texts, pixel_values=PIXELS).logits)
    return torch.stack(logits, dim=1)


DESIGNS = {
    "coop": {},
    "deep": {"text_depth": 2},
    "class-specific": {"class_specific": True, "class_names": NAMES},
    "vpt": {"num_text_tokens": 0, "num_vision_tokens": 2, "vision_depth": 2},
    "ivlp": {"num_vision_tokens": 2, "vision_depth": 3, "text_depth": 3},
    "maple": {"num_vision_tokens": 2, "coupled": True, "text_depth": 2, "vision_depth": 2},
}


@pytest.mark.parametrize("design", [name for name in DESIGNS if name != "class-specific"])
def test_clipseg_answers_as_its_own_forward_for_the_same_texts(design):
    """All classes are compared at once, and the hidden states are reduced before; nothing else may differ."""
    model = prompted(**DESIGNS[design])
    torch.testing.assert_close(model(pixel_values=PIXELS).logits, stock_logits(model), rtol=0, atol=1e-12)
    with model.disable_adapter():
        torch.testing.assert_close(model(pixel_values=PIXELS).logits, stock_logits(model), rtol=0, atol=1e-12)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("name", [SEGMENTING, "CLIPModel", "MetaClip2Model"])
def test_every_prompt_of_every_design_is_trained(name, design):
    """CLIPSeg's own `forward` runs the towers without a graph: "element 0 does not require grad"."""
    fields = {**DESIGNS[design], "tokenizer_name_or_path": clip_tokenizer().name_or_path}
    model = prompted(name, **fields).train()
    loss = model(pixel_values=PIXELS, labels=labels_of(low=0)).loss
    loss.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert trained
    assert all(parameter.grad.norm() > 0 for parameter in trained)
    assert all(parameter.grad is None for parameter in model.parameters() if not parameter.requires_grad)


def slow_dense_clip(model, class_features):
    """Return images × classes × rows × columns: MaskCLIP, patch by patch."""
    clip = model.get_base_model()
    tower = clip.vision_model
    states = tower.pre_layrnorm(tower.embeddings(PIXELS))
    for layer in tower.encoder.layers[:-1]:
        states = layer(states, None)
    last = tower.encoder.layers[-1]
    logits = torch.empty(len(PIXELS), len(class_features), 3, 3, dtype=torch.float64)
    for image, tokens in enumerate(states):
        for place, x in enumerate(tokens[1:]):
            y = last.layer_norm1(x)
            x = x + last.self_attn.out_proj(last.self_attn.v_proj(y))
            x = x + last.mlp.fc2(last.mlp.activation_fn(last.mlp.fc1(last.layer_norm2(x))))
            feature = clip.visual_projection(tower.post_layernorm(x))
            cosines = normalize(feature, dim=-1) @ normalize(class_features, dim=-1).T
            logits[image, :, place // 3, place % 3] = clip.logit_scale.exp() * cosines
    return logits


def test_dense_clip_is_maskclip():
    model = prompted("CLIPModel")
    with torch.no_grad():
        expected = slow_dense_clip(model, model.get_class_features())
        torch.testing.assert_close(model(pixel_values=PIXELS).logits, expected, rtol=0, atol=1e-12)


def test_dense_clip_takes_larger_and_oblong_images():
    """Position embeddings are interpolated; at the trained size they are the model's own."""
    model = prompted("CLIPModel")
    with torch.no_grad():
        logits = model(pixel_values=torch.randn(1, 3, 96, 64, dtype=torch.float64)).logits
    assert logits.shape == (1, 3, 6, 4)
    assert logits.isfinite().all()


def test_an_adapter_of_a_classifier_segments_and_the_other_way_round(tmp_path):
    """The parameters are the same, so training for one task is not lost for the other."""
    config = CLIPPromptConfig(num_text_tokens=2)
    classifier = get_peft_model(make_model("CLIPModel", torch.float64), config).eval()
    classifier.set_classes(NAMES, clip_tokenizer())
    classifier.save_pretrained(tmp_path / "classifier")
    config = CLIPPromptConfig.from_pretrained(tmp_path / "classifier")
    assert config.task == "image-classification"
    config.task = "image-segmentation"
    base = make_model("CLIPModel", torch.float64)
    segmenter = PeftModel.from_pretrained(base, tmp_path / "classifier", config=config).eval()
    assert segmenter(pixel_values=PIXELS).logits.shape == (2, 3, 3, 3)
    assert torch.equal(segmenter.get_class_features(), classifier.get_class_features())
    segmenter.save_pretrained(tmp_path / "segmenter")
    config = CLIPPromptConfig.from_pretrained(tmp_path / "segmenter")
    config.task = "image-classification"
    again = PeftModel.from_pretrained(make_model("CLIPModel", torch.float64), tmp_path / "segmenter", config=config)
    assert torch.equal(again.eval()(pixel_values=PIXELS).logits, classifier(pixel_values=PIXELS).logits)


@pytest.mark.parametrize("name", [SEGMENTING, "CLIPModel"])
def test_a_saved_adapter_segments_at_once(name, tmp_path):
    """The file says the task, the classes and the loss."""
    model = prompted(name)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_model(name, torch.float64), tmp_path).eval()
    assert loaded.active_peft_config.task == "image-segmentation"
    labels = labels_of(low=0)
    expected, answer = (each(pixel_values=PIXELS, labels=labels) for each in (model, loaded))
    assert torch.equal(answer.logits, expected.logits)
    assert answer.loss == expected.loss
    assert loaded.get_base_model().config.id2label == dict(
        enumerate([*NAMES, "background"] if name == SEGMENTING else NAMES)
    )


@pytest.mark.parametrize("name", [SEGMENTING, "CLIPModel"])
def test_a_call_may_name_other_classes_and_the_model_without_prompts(name):
    model = prompted(name)
    with model.using_classes(["cow", "hen"], clip_tokenizer(), "{}."):
        expected = model(pixel_values=PIXELS).logits
    answer = model.classify(PIXELS, names=["cow", "hen"], tokenizer=clip_tokenizer())
    assert torch.equal(answer.logits, expected)
    with model.disable_adapter():
        without = model(pixel_values=PIXELS).logits
    assert torch.equal(model.classify(PIXELS, adapter="__base__").logits, without)
    assert not torch.equal(model(pixel_values=PIXELS).logits, without)


@pytest.mark.parametrize("name", [SEGMENTING, "CLIPModel"])
def test_features_of_the_frozen_image_side_stand_in_for_images(name):
    """The Trainer computes them once for all gradient evaluations of a step, and experiments once for a run."""
    model = prompted(name)
    assert model.base_model.sees_images_frozen
    features = model.encode_images(pixel_values=PIXELS)
    labels = labels_of(low=0)
    expected, answer = (
        model(**inputs, labels=labels) for inputs in ({"pixel_values": PIXELS}, {"image_features": features})
    )
    assert torch.equal(answer.logits, expected.logits)
    assert answer.loss == expected.loss


def test_a_decoder_that_trains_is_no_frozen_image_side():
    """Otherwise the step's evaluations would see the decoder as it was before them."""
    model = prompted(modules_to_save=["decoder"])
    assert not model.base_model.sees_images_frozen
    model.train()(pixel_values=PIXELS, labels=labels_of()).loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert all(gradient is not None for gradient in gradients.values())
    assert any("reduces" in name for name in gradients)


@pytest.mark.parametrize(("kind", "background"), [("binary", True), ("multi_class", True), ("multi_class", False)])
def test_the_losses_are_their_equations(kind, background):
    """Pixel by pixel, with background and ignored pixels."""
    logits = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    labels = labels_of(low=-1 if background else 0, size=(9, 7))
    scaled = interpolate(logits, (9, 7), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    losses = []
    for z, y in zip(scaled.reshape(-1, 3), labels.flatten()):
        if y == -100:
            continue
        if kind == "binary":
            losses.append(binary_cross_entropy_with_logits(z, (torch.arange(3) == y).double()))
        else:
            z = torch.cat([z, z.new_zeros(1)]) if background else z
            losses.append(cross_entropy(z, torch.where(y < 0, 3, y)))
    expected = torch.stack(losses).mean()
    loss = pixel_loss(logits, labels, kind, background)
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(each, logits)[0] for each in (loss, expected)))
    halves = [pixel_loss(logits[i : i + 1], labels[i : i + 1], kind, background, len(losses)) for i in range(2)]
    torch.testing.assert_close(sum(halves), expected, rtol=1e-13, atol=0)


def test_the_binary_loss_is_that_of_the_stock_model():
    model = prompted(pixel_loss="binary")
    labels = torch.randint(-1, 3, (2, 48, 48))
    targets = (labels.unsqueeze(1) == torch.arange(3).view(1, 3, 1, 1)).double()
    losses = []
    for index, name in enumerate(NAMES):
        texts = clip_tokenizer()([f"{name}."] * 2, return_tensors="pt")
        losses.append(model.get_base_model()(**texts, pixel_values=PIXELS, labels=targets[:, index]).loss)
    loss = model(pixel_values=PIXELS, labels=labels).loss
    torch.testing.assert_close(loss, torch.stack(losses).mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", [SEGMENTING, "CLIPModel"])
def test_parts_of_a_batch_give_the_same_gradient_when_memory_is_short(name, monkeypatch):
    """150 classes on 352 × 352 pixels would not fit at once."""
    labels = labels_of(low=0)
    gradients = []
    for budget in (None, 1):
        if budget is not None:
            monkeypatch.setattr(clipseg, "BYTES", budget)
            monkeypatch.setattr(pixel_loss_module, "BYTES", budget)
        model = prompted(name)
        model(pixel_values=PIXELS, labels=labels).loss.backward()
        gradients.append(next(p.grad for p in model.parameters() if p.requires_grad))
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=0)


@pytest.mark.parametrize("inputs", ["conditional_pixel_values", "conditional_embeddings"])
def test_the_stock_calls_of_clipseg_answer_as_before(inputs):
    """One-shot segmentation is conditioned on an image, and needs no class."""
    model, base = prompted(num_vision_tokens=0), make_model(SEGMENTING, torch.float64)
    conditions = {"conditional_pixel_values": PIXELS.flip(0), "conditional_embeddings": torch.randn(2, 48).double()}
    given = {inputs: conditions[inputs], "pixel_values": PIXELS}
    assert torch.equal(model(**given).logits, base(**given).logits)


def test_the_stock_call_with_labels_trains_and_divides_by_the_whole_batch():
    """Texts of one's own, one for each image and with a mask of its own, as CLIPSeg was trained."""
    model = prompted()
    texts = clip_tokenizer()(["cat", "red star"], padding=True, return_tensors="pt")
    labels = torch.rand(2, 48, 48).round().double()
    whole = model(**texts, pixel_values=PIXELS, labels=labels).loss
    parts = [
        model(
            **{name: each[i : i + 1] for name, each in texts.items()},
            pixel_values=PIXELS[i : i + 1],
            labels=labels[i : i + 1],
            num_items_in_batch=torch.tensor(labels.numel()),
        ).loss
        for i in range(2)
    ]
    torch.testing.assert_close(sum(parts), whole)
    whole.backward()
    assert next(p for p in model.parameters() if p.requires_grad).grad.norm() > 0


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        (SEGMENTING, {"conditional": True}, "segmentation compares pixels; use conditional=False"),
        ("CLIPModel", {"conditional": True}, "segmentation compares pixels; use conditional=False"),
        ("CLIPModel", {"pixel_loss": "binary"}, "pixel_loss='binary' is not for CLIPModel"),
        (SEGMENTING, {"pixel_loss": "dice"}, "pixel_loss must be one of multi_class, binary or None"),
        (SEGMENTING, {"task": "image-classification"}, "task='image-classification' is not one that CLIPSegFor"),
        ("SiglipModel", {}, "task='image-segmentation' is not one that SiglipModel"),
    ],
)
def test_what_has_no_meaning_is_refused_in_a_sentence(name, fields, message):
    with pytest.raises(ValueError, match=message):
        prompted(name, **fields)


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        (SEGMENTING, torch.full((2, 4, 4), 3), "A pixel has the label 3, not one of the 3 classes"),
        (SEGMENTING, torch.full((2, 4, 4), -2), "A pixel has the label -2"),
        (SEGMENTING, torch.zeros(2), "Labels of pixels must be whole numbers, images × height × width"),
        (SEGMENTING, torch.zeros(3, 4, 4).long(), "with 2 images"),
        ("CLIPModel", torch.full((2, 4, 4), -1), r"cannot answer that it shows none. Ignore background"),
    ],
)
def test_labels_that_do_not_fit_are_refused(name, labels, message):
    with pytest.raises(ValueError, match=message):
        prompted(name)(pixel_values=PIXELS, labels=labels)


def test_oblong_images_are_refused_by_clipsegs_decoder():
    with pytest.raises(ValueError, match="CLIPSeg's decoder takes square images, but there are 6 patches"):
        prompted()(pixel_values=PIXELS[..., :32])


def test_the_loss_is_chosen_by_the_config():
    labels = labels_of()
    for kind, chosen in ((None, "multi_class"), ("binary", "binary")):
        outputs = prompted(pixel_loss=kind)(pixel_values=PIXELS, labels=labels)
        torch.testing.assert_close(outputs.loss, pixel_loss(outputs.logits, labels, chosen, True))


def test_masks_that_keep_their_own_sizes_are_padded_without_an_effect():
    """Images of a data set differ in size, and a measure at another size than the truth's is another measure."""
    model = prompted()
    labels = [torch.randint(-1, 3, size) for size in ((50, 30), (20, 60))]
    padded = torch.full((2, 50, 60), -100)
    for place, each in zip(padded, labels):
        place[: each.shape[0], : each.shape[1]] = each
    sizes = torch.tensor([each.shape for each in labels])
    loss = model(pixel_values=PIXELS, labels=padded, label_sizes=sizes).loss
    total = sum(
        model(pixel_values=PIXELS[i : i + 1], labels=each[None]).loss * each.numel() for i, each in enumerate(labels)
    )
    torch.testing.assert_close(loss, total / sum(each.numel() for each in labels))


@pytest.fixture(scope="module")
def segformer_processor():
    """The image processor of transformers that turns logits into masks; CLIP's and CLIPSeg's do not."""
    return SegformerImageProcessorPil(size={"height": 48, "width": 48})


@pytest.mark.parametrize("name", [SEGMENTING, "CLIPModel"])
def test_the_image_segmentation_pipeline_names_the_classes(name, segformer_processor):
    """The pipeline logs that it does not know the model, and then answers all the same."""
    model = prompted(name).float()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))
    segment = pipeline("image-segmentation", model=model.get_base_model(), image_processor=segformer_processor)
    found = {each["label"]: np.asarray(each["mask"]) for each in segment(image)}
    assert found.keys() <= {*NAMES}
    assert (sum(mask > 0 for mask in found.values()) == 1).all()
    inputs = segformer_processor(image, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    (classes,) = segformer_processor.post_process_semantic_segmentation(outputs, target_sizes=[(60, 80)])
    assert all((classes.numpy() == NAMES.index(label))[mask > 0].all() for label, mask in found.items())


def test_clipsegs_processor_and_model_answer_with_the_prompts(segformer_processor):
    """One image for each text, as in transformers' documentation."""
    model = prompted().float()
    processor = CLIPSegProcessor(ViTImageProcessorPil(size={"height": 48, "width": 48}), clip_tokenizer())
    image = Image.new("RGB", (60, 80), "red")
    texts = [f"{name}." for name in NAMES]
    inputs = processor(text=texts, images=[image] * 3, padding=True, return_tensors="pt")
    with torch.no_grad():
        stock = model.get_base_model()(**inputs).logits
        all_at_once = model(pixel_values=inputs["pixel_values"][:1]).logits[0]
    torch.testing.assert_close(stock, all_at_once, rtol=1e-4, atol=1e-4)
