"""KgCoOp, NFL, PromptSRC and ProGrad: the terms are the papers', on a small CLIP, against arithmetic written out."""

import pytest
import torch
from peft import get_peft_model
from torch.nn.functional import cross_entropy, normalize
from transformers import CLIPModel, ViTConfig, ViTModel

from hf_sharp_prompt import CLIPPromptConfig, ViTPromptConfig
from hf_sharp_prompt.objectives import Batch, ConstrainingObjective, ObjectiveSum, create
from hf_sharp_prompt.sharpness import Constraint, SharpnessAware
from hf_sharp_prompt.sharpness import create as create_rule
from hf_sharp_prompt.sharpness.subspace import Subspace


CLASSES = ["red circle", "blue heart", "a very green star"]
NOVEL = ["grey moon", "yellow ring"]
LABELS = torch.tensor([0, 2, 1, 1])
DESIGNS = {
    "text": {},
    "both towers": {"text_depth": 2, "num_vision_tokens": 2, "vision_depth": 2},
    "conditional": {"conditional": True},
}
every_design = pytest.mark.parametrize("design", DESIGNS)


@pytest.fixture
def frozen(checkpoint):
    """The base model by itself, in float64."""
    return CLIPModel.from_pretrained(checkpoint).double().eval()


@pytest.fixture
def pixels(pixel_values):
    return pixel_values.double()


def make_model(checkpoint, tokenizer, **config):
    torch.manual_seed(0)
    clip = CLIPModel.from_pretrained(checkpoint).double()
    model = get_peft_model(clip, CLIPPromptConfig(**({"num_text_tokens": 3} | config)), autocast_adapter_dtype=False)
    model.set_classes(CLASSES, tokenizer, "{}.")
    return model.train()


def texts_of(names, template, tokenizer):
    return [tokenizer(template.replace("{}", name), return_tensors="pt") for name in names]


def zero_shot_texts(frozen, names, templates, tokenizer, normalised):
    """Names × width: one text at a time, averaged over the templates."""
    rows = []
    for name in names:
        features = [
            frozen.get_text_features(**texts_of([name], each, tokenizer)[0]).pooler_output for each in templates
        ]
        rows.append(sum(normalize(each, dim=-1) if normalised else each for each in features) / len(features))
    return normalize(torch.cat(rows), dim=-1).detach()


def learned_texts(model, names, tokenizer):
    """Names × width, by the model's own way of encoding any text, one at a time."""
    features = [model.get_text_features(**each).pooler_output for each in texts_of(names, "{}.", tokenizer)]
    return normalize(torch.cat(features), dim=-1)


def learned_by_image(model, pixels, tokenizer):
    """Images × classes × width, with each image's own context."""
    base, rows = model.get_base_model(), []
    layer = base.text_model.embeddings
    for image in normalize(model.get_image_features(pixel_values=pixels).pooler_output, dim=-1):
        context = layer.shifted_context(image.unsqueeze(0))
        features = []
        for each in texts_of(CLASSES, "{}.", tokenizer):
            with layer.using_context(context):
                features.append(base.get_text_features(**each).pooler_output)
        rows.append(normalize(torch.cat(features), dim=-1))
    return torch.stack(rows)


def kl(teacher, student):
    """The divergence of each row."""
    rows = []
    for p, q in zip(teacher.softmax(-1), student.softmax(-1), strict=True):
        rows.append(sum(a * (a.log() - b.log()) for a, b in zip(p, q, strict=True)))
    return torch.stack(rows)


def expected_term(name, model, frozen, pixels, tokenizer):
    """The papers' terms, written out."""
    if name == "nfl":
        target = zero_shot_texts(frozen, NOVEL, ["a {}.", "art of the {}."], tokenizer, normalised=True)
        return 2.0 * (1 - (learned_texts(model, NOVEL, tokenizer) * target).sum(-1)).mean()
    conditional = model.active_config.conditional
    learned = learned_by_image(model, pixels, tokenizer) if conditional else learned_texts(model, CLASSES, tokenizer)
    if name == "kgcoop":
        target = zero_shot_texts(frozen, CLASSES, ["a photo of a {}."], tokenizer, normalised=True)
        return 8.0 * (1 - (learned * target).sum(-1)).mean()
    images = normalize(model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
    frozen_images = normalize(frozen.get_image_features(pixel_values=pixels).pooler_output, dim=-1).detach()
    scale = frozen.logit_scale.exp().detach()
    logits = scale * (images.unsqueeze(1) * learned).sum(-1)
    if name == "prograd":
        target = zero_shot_texts(frozen, CLASSES, ["a photo of a {}."], tokenizer, normalised=True)
        return 4.0 * kl(scale * frozen_images @ target.T / 2, logits / 2).mean()
    target = zero_shot_texts(frozen, CLASSES, ["a {}.", "art of the {}."], tokenizer, normalised=False)
    zero_shot = scale * frozen_images @ target.T
    term = 25.0 * (learned - target).abs().mean() + 10.0 * (images - frozen_images).abs().mean()
    return term + kl(zero_shot, logits).sum() / logits.numel()


SETTINGS = {
    "kgcoop": {},
    "nfl": {"novel_class_names": NOVEL, "weight": 2.0, "templates": ["a {}.", "art of the {}."]},
    "promptsrc": {"templates": ["a {}.", "art of the {}."]},
    "prograd": {"temperature": 2.0},
}
every_objective = pytest.mark.parametrize("name", SETTINGS)


def begin(name, model, tokenizer):
    objectives = ObjectiveSum([create(name, **SETTINGS[name])])
    objectives.begin_run(model, tokenizer)
    objectives.begin_step(model, 0)
    return objectives


def term_of(objectives, model, pixels, labels, size=None, rows=slice(None)):
    inputs = {"pixel_values": pixels[rows]}
    outputs = model(**inputs, labels=labels[rows])
    of = objectives.constraints[0] if objectives.constraints else None
    return objectives.term(Batch(model, inputs, outputs, labels[rows], size=size), of)


def gradients(loss, model):
    parameters = [each for each in model.parameters() if each.requires_grad]
    return torch.cat([each.flatten() for each in torch.autograd.grad(loss, parameters, materialize_grads=True)])


@every_objective
@every_design
def test_term_and_gradient_are_the_papers(name, design, checkpoint, tokenizer, frozen, pixels):
    """Otherwise what is minimised is another method; all designs, features and gradients, and micro-batches."""
    model = make_model(checkpoint, tokenizer, **DESIGNS[design])
    objectives = begin(name, model, tokenizer)
    term = term_of(objectives, model, pixels, LABELS)
    expected = expected_term(name, model, frozen, pixels, tokenizer)
    torch.testing.assert_close(term, expected, rtol=1e-10, atol=0)
    assert term > 0.01
    gradient = gradients(expected, model)
    torch.testing.assert_close(gradients(term, model), gradient, rtol=1e-8, atol=1e-10)
    assert gradient.norm() > 1e-3, "and it moves the prompt"
    parts = [term_of(objectives, model, pixels, LABELS, 4, rows) for rows in (slice(0, 1), slice(1, 4))]
    torch.testing.assert_close(sum(parts), expected, rtol=1e-10, atol=0)
    assert objectives.pop_metrics() == {}, "no step is over"
    objectives.end_step(model)
    assert objectives.pop_metrics() == {f"{name}_loss": pytest.approx(float(expected.detach()))}


@every_design
def test_without_prompts_the_model_is_the_base_model_and_comes_back(design, checkpoint, tokenizer, frozen, pixels):
    """What is frozen is the target; and a look at it in the middle of a step must not freeze or wake anything."""
    model = make_model(checkpoint, tokenizer, **DESIGNS[design])
    next(each for each in model.parameters() if each.requires_grad).requires_grad_(False)
    trains = [each.requires_grad for each in model.parameters()]
    ids = texts_of(CLASSES[:1], "{}.", tokenizer)[0]
    before = model.get_text_features(**ids).pooler_output
    with model.without_prompts():
        assert torch.equal(model.get_text_features(**ids).pooler_output, frozen.get_text_features(**ids).pooler_output)
    images = frozen.get_image_features(pixel_values=pixels).pooler_output
    assert torch.equal(model.encode_images(pixel_values=pixels), images)
    assert torch.equal(model.get_text_features(**ids).pooler_output, before)
    assert [each.requires_grad for each in model.parameters()] == trains


def test_a_model_that_predicts_gives_logits_alone(checkpoint, tokenizer, pixels):
    """The Trainer gathers and stores whatever a prediction holds."""
    model = make_model(checkpoint, tokenizer)
    assert set(model(pixel_values=pixels)) == {"logits", "class_features", "image_features"}
    assert set(model.eval()(pixel_values=pixels)) == {"logits"}
    with pytest.raises(ValueError, match=r"gives its class_features to objectives while it trains; call model.train"):
        term_of(begin("kgcoop", model, tokenizer), model, pixels, LABELS)


class TestProGrad:
    @pytest.mark.parametrize("lmbda", [1.0, 0.8])
    def test_it_is_the_released_codes(self, lmbda):
        """Written out: only what works against the other gradient goes, and a zero gradient changes nothing."""
        prograd = create("prograd", lmbda=lmbda)
        direction, general = torch.tensor([3.0, 1.0]), torch.tensor([-2.0, 0.0])
        assert prograd.constrain(direction, general).tolist() == pytest.approx([3.0 - lmbda * 3.0, 1.0])
        assert torch.equal(prograd.constrain(direction, -general), direction)
        assert torch.equal(prograd.constrain(direction, torch.zeros(2)), direction)

    @pytest.mark.parametrize("rule", ["none", "sam", "fsam"])
    def test_rule_then_constraint_then_subspace(self, rule, checkpoint, tokenizer, pixels):
        """In a plain loop, in micro-batches; the constraint's gradient is at the un-perturbed prompt."""
        model = make_model(checkpoint, tokenizer)
        objectives = begin("prograd", model, tokenizer)
        parameters = [each for each in model.parameters() if each.requires_grad]

        def loss(rows):
            return cross_entropy(model(pixel_values=pixels[rows]).logits, LABELS[rows], reduction="sum") / 4

        def against(rows):  # conflicts for sure
            return -term_of(objectives, model, pixels, LABELS, 4, rows) - 3 * loss(rows)

        d, general = gradients(loss(slice(None)), model), gradients(against(slice(None)), model)
        if rule != "none":
            context, offset = parameters[0], 0.05 * d / d.norm()
            held = context.detach().clone()
            with torch.no_grad():
                context += offset.view_as(context)
            d = gradients(loss(slice(None)), model)
            with torch.no_grad():
                context.copy_(held)
        assert d @ general < 0
        d = d - (d @ general) / (general @ general) * general
        subspace = Subspace(torch.linalg.qr(torch.randn(len(d), 5, dtype=d.dtype))[0].T, torch.ones(5))
        sharp = SharpnessAware(create_rule(rule), parameters, subspace=subspace)
        rows = [slice(0, 3), slice(3, 4)]
        constraint = Constraint(
            "prograd", [lambda each=each: against(each) for each in rows], objectives.constraints[0].constrain
        )
        before = [each.detach().clone() for each in parameters]
        value = sharp.backward([lambda each=each: loss(each) for each in rows], constraints=[constraint])
        torch.testing.assert_close(parameters[0].grad.flatten(), subspace.project(d), rtol=1e-8, atol=1e-10)
        assert all(torch.equal(one, other) for one, other in zip(before, parameters, strict=True))
        metrics = sharp.pop_metrics()
        assert metrics["loss"] == float(value) == pytest.approx(float(loss(slice(None)).detach()))
        assert metrics["prograd_conflicts"] == 1
        assert -1 < metrics["prograd_cosine"] < 0

    def test_the_constraint_sees_the_same_dropout_masks_and_leaks_nothing(self):
        """One mask a step is what makes directions comparable; an exception in the last evaluation is no excuse."""
        weight = torch.nn.Parameter(torch.ones(50, dtype=torch.float64))
        seen = []

        def loss():
            seen.append(torch.nn.functional.dropout(torch.ones_like(weight), 0.5))
            return (weight * seen[-1]).square().sum()

        sharp = SharpnessAware(create_rule("fsam"), [weight])
        sharp.backward(loss, constraints=[Constraint("same", loss, lambda direction, gradient: direction)])
        assert len(seen) == 3
        assert all(torch.equal(seen[0], each) for each in seen)

        def fail():
            raise KeyboardInterrupt

        state, held, bits = sharp.state_dict(), weight.grad, weight.detach().clone()
        with pytest.raises(KeyboardInterrupt):
            sharp.backward(loss, constraints=[Constraint("other", fail, None)])
        assert all(torch.equal(tensor, sharp.state_dict()[name]) for name, tensor in state.items())
        assert weight.grad is held
        assert torch.equal(weight, bits)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("nfl", {}, "nfl: novel_class_names must be the names of classes without images"),
        ("nfl", {"novel_class_names": ["a", ""]}, "novel_class_names must be the names"),
        (
            "nfl",
            {"novel_class_names": NOVEL, "templates": "imagenet_8"},
            "no templates 'imagenet_8'; did you mean 'ima",
        ),
        (
            "nfl",
            {"novel_class_names": NOVEL, "templates": ["a {} {}"]},
            r"contains \{\} exactly once.*got 'a \{\} \{\}'",
        ),
        ("kgcoop", {"template": "a photo"}, r"kgcoop: a template contains \{\} exactly once"),
        ("kgcoop", {"wieght": 1}, "kgcoop has no hyperparameter 'wieght'; did you mean 'weight'"),
        ("prograd", {"temperature": 0}, "prograd: temperature must be a finite number > 0, got 0"),
    ],
)
def test_bad_input_is_answered_before_anything_is_loaded(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        create(name, **arguments)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("kgcoop", {"num_text_tokens": 0, "num_vision_tokens": 2}, "with num_text_tokens=0 they do not move"),
        ("nfl", {"num_text_tokens": 0, "num_vision_tokens": 2}, "with num_text_tokens=0 they do not move"),
        ("nfl", {"class_specific": True, "class_names": CLASSES}, "nfl needs a context that novel names have as well"),
    ],
)
def test_combinations_without_meaning(name, config, message, checkpoint, tokenizer):
    model = make_model(checkpoint, tokenizer, **config)
    with pytest.raises(ValueError, match=message):
        begin(name, model, tokenizer)


@every_objective
def test_models_without_class_names(name, checkpoint, tokenizer, clip):
    vit = ViTModel(ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16))
    vit = get_peft_model(vit, ViTPromptConfig(num_tokens=2, head=None))
    with pytest.raises(
        ValueError, match=f"{name} compares learned with hand-written texts.*this ViTModel reads no texts"
    ):
        begin(name, vit, tokenizer)
    with pytest.raises(ValueError, match=f"{name} compares texts of the classes, but none are set"):
        begin(name, get_peft_model(clip, CLIPPromptConfig()), tokenizer)


def test_a_tokenizer_is_loaded_by_the_base_models_name_or_asked_for(checkpoint, tokenizer):
    model = make_model(checkpoint, tokenizer)
    begin("nfl", model, None)
    model.get_base_model().name_or_path = ""
    with pytest.raises(ValueError, match="needs a tokenizer, but the base model was not loaded by name"):
        begin("nfl", model, None)


@pytest.mark.parametrize("name", ["promptsrc", "prograd"])
def test_vision_tokens_alone_have_a_meaning_for_some(name, checkpoint, tokenizer, pixels):
    model = make_model(checkpoint, tokenizer, num_text_tokens=0, num_vision_tokens=2)
    objectives = begin(name, model, tokenizer)
    assert gradients(term_of(objectives, model, pixels, LABELS), model).norm() > 0
    assert isinstance(objectives.objectives[0], ConstrainingObjective) == (name == "prograd")
