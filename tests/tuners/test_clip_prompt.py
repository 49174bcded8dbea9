"""A learned prompt at CLIP's text input: what it computes, what it leaves alone, and PEFT's verbs on it."""

import copy
import json

import pytest
import torch
from peft import AutoPeftModel, PeftModel, get_peft_model
from safetensors import safe_open
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    pipeline,
)
from tuners.coop import (
    LABELS,
    NAMES,
    TEXTS,
    WORDS,
    assert_close,
    context,
    prompted,
    slow_features,
    text_features,
    words_ids,
)

from hf_sharp_prompt import CLIPPromptConfig


def a_step(model: nn.Module, pixel_values: torch.Tensor) -> None:
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.5, weight_decay=0.1)
    model(pixel_values=pixel_values, labels=LABELS).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def count_calls(module: nn.Module) -> list[None]:
    calls = []
    module.register_forward_pre_hook(lambda *_: calls.append(None))
    return calls


class TestAnyTextIsPrompted:
    def test_a_context_of_words_is_those_words_before_the_text(self, either_clip, tokenizer):
        """Otherwise training would not start from the hand-written prompt that `text_init` names."""
        by_hand = text_features(either_clip, tokenizer, [f"{WORDS} {text}" for text in TEXTS])
        model = get_peft_model(either_clip, CLIPPromptConfig(num_text_tokens=4, text_init=WORDS))
        assert_close(text_features(model, tokenizer), by_hand, 1e-6)

    def test_features_and_gradients_are_those_of_slow_arithmetic(self, either_clip, tokenizer):
        """Otherwise mask, positions, pooling or the context's place are off, and prompts learn something else."""
        model = prompted(either_clip, num_text_tokens=5)
        features = text_features(model, tokenizer)
        weights = torch.randn_like(features)
        (gradient,) = torch.autograd.grad((features * weights).sum(), context(model))

        learned = context(model).detach().clone().requires_grad_()
        expected = torch.stack([slow_features(either_clip, tokenizer(text)["input_ids"], learned) for text in TEXTS])
        (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), learned)
        assert_close(features, expected, 1e-10)
        assert_close(gradient, expected_gradient, 1e-10 * float(expected_gradient.abs().max()))

    @pytest.mark.parametrize("padded", [True, "max_length"], ids=["to the longest", "to 77"])
    @pytest.mark.parametrize("with_mask", [True, False], ids=["mask", "no mask"])
    @pytest.mark.parametrize("with_positions", [True, False], ids=["positions", "no positions"])
    def test_padding_mask_and_positions_change_nothing(
        self, either_clip, tokenizer, padded, with_mask, with_positions
    ):
        """Otherwise a data set tokenized in OpenAI's way, padded to 77, fails or is read differently."""
        model = prompted(either_clip, num_text_tokens=4)
        inputs = dict(tokenizer(TEXTS, padding=padded, return_tensors="pt"))
        if not with_mask:
            del inputs["attention_mask"]
        if with_positions:
            inputs["position_ids"] = torch.arange(inputs["input_ids"].shape[1])[None]
        one_by_one = torch.cat([text_features(model, tokenizer, [text]) for text in TEXTS])
        assert_close(model.get_text_features(**inputs).pooler_output, one_by_one, 1e-6)

    def test_a_mask_that_hides_tokens_of_the_text_is_respected(self, clip, tokenizer):
        """Otherwise the mask is shifted against the text by the context's length."""
        inputs = tokenizer([f"{WORDS} blue heart"], return_tensors="pt")
        inputs["attention_mask"][0, 6] = 0
        expected = clip.get_text_features(**inputs).pooler_output
        seen = clip.get_text_features(inputs["input_ids"]).pooler_output
        model = get_peft_model(clip, CLIPPromptConfig(num_text_tokens=4, text_init=WORDS))
        inputs = tokenizer(["blue heart"], return_tensors="pt")
        inputs["attention_mask"][0, 2] = 0
        assert_close(model.get_text_features(**inputs).pooler_output, expected, 1e-6)
        assert (expected - seen).abs().max() > 1e-3, "hiding the token makes a difference"

    def test_the_tower_takes_its_inputs_by_position_too(self, model, tokenizer):
        """Otherwise code that calls the text tower as `text_model(input_ids, attention_mask)` fails."""
        tower = model.get_base_model().text_model
        inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
        expected = tower(**inputs).pooler_output
        assert torch.equal(tower(inputs["input_ids"], inputs["attention_mask"]).pooler_output, expected)

    @pytest.mark.parametrize("text_model", [CLIPTextModel, CLIPTextModelWithProjection])
    def test_text_towers_alone_are_prompted(self, checkpoint, tokenizer, text_model):
        """Otherwise text-to-image users, who hold only the text tower, cannot use a prompt."""
        config = CLIPConfig.from_pretrained(checkpoint).text_config
        tower = text_model(config).eval()
        by_hand = tower(**tokenizer([f"{WORDS} {text}" for text in TEXTS], padding=True, return_tensors="pt"))
        model = get_peft_model(tower, CLIPPromptConfig(num_text_tokens=4, text_init_token_ids=words_ids(tokenizer)))
        outputs = model(**tokenizer(TEXTS, padding=True, return_tensors="pt"))
        assert_close(outputs[0], by_hand[0], 1e-6)

    def test_words_shorter_than_the_context_stand_next_to_the_text(self, clip, tokenizer):
        """Otherwise the hand-written prompt is separated from the text by random tokens."""
        model = get_peft_model(clip, CLIPPromptConfig(num_text_tokens=6, text_init="photo of"))
        words = tokenizer("photo of", add_special_tokens=False)["input_ids"]
        learned = context(model)
        assert torch.equal(learned[4:], clip.text_model.embeddings.token_embedding.weight[words])
        assert 0.005 < learned[:4].std() < 0.04, "the others are drawn from N(0, 0.02²)"

    @pytest.mark.parametrize("class_specific", [False, True])
    def test_tokens_beyond_the_words_may_start_at_zero(self, clip, tokenizer, class_specific):
        """Otherwise ProGrad's contexts start elsewhere."""
        names = {"class_specific": True, "class_names": ["a", "b"]} if class_specific else {}
        config = CLIPPromptConfig(num_text_tokens=6, text_init="photo of", text_init_rest="zeros", **names)
        context = get_peft_model(clip, config).get_base_model().text_model.embeddings.clip_prompt_context["default"]
        assert not context[..., :4, :].any()
        assert context[..., 4:, :].all(-1).all()


class TestClassification:
    def test_loss_and_logits_are_clips(self, model, tokenizer, pixel_values):
        """Otherwise accuracies and losses are not those of CLIP's zero-shot classification."""
        output = model(pixel_values=pixel_values, labels=LABELS)
        base = model.get_base_model()
        images = base.get_image_features(pixel_values).pooler_output
        logits = base.logit_scale.exp() * torch.cosine_similarity(
            images[:, None], text_features(model, tokenizer, NAMES)[None], dim=-1
        )
        assert_close(output.logits, logits, 1e-5)
        assert_close(output.loss, cross_entropy(logits, LABELS), 1e-5)

    def test_without_labels_there_is_no_loss(self, model, pixel_values):
        """Otherwise inference needs labels."""
        output = model(pixel_values=pixel_values)
        assert output.loss is None
        assert output.logits.shape == (len(pixel_values), len(NAMES))

    def test_a_micro_batch_contributes_its_share_of_the_batch(self, model, pixel_values):
        """Otherwise accumulated gradients weigh the last, smaller micro-batch too much."""
        whole = model(pixel_values=pixel_values, labels=LABELS).loss
        parts = [
            model(pixel_values=pixel_values[rows], labels=LABELS[rows], num_items_in_batch=len(LABELS)).loss
            for rows in (slice(0, 3), slice(3, 4))
        ]
        assert_close(sum(parts), whole, 1e-6)

    def test_image_features_stand_in_for_pixels(self, model, pixel_values):
        """Otherwise features computed once for the whole run are of no use."""
        expected = model(pixel_values=pixel_values, labels=LABELS)
        features = model.get_image_features(pixel_values).pooler_output
        output = model(image_features=features, labels=LABELS)
        assert torch.equal(output.logits, expected.logits)
        assert torch.equal(output.loss, expected.loss)

    def test_images_and_texts_of_ones_own_are_compared_as_ever(self, model, tokenizer, pixel_values):
        """Otherwise retrieval code written for `CLIPModel` breaks on a prompted one."""
        output = model(pixel_values=pixel_values, **tokenizer(NAMES, padding=True, return_tensors="pt"))
        assert_close(output.logits_per_image, model(pixel_values=pixel_values).logits, 1e-5)

    def test_the_stock_pipeline_uses_the_prompts(self, model, tokenizer, image_processor, images, pixel_values, clip):
        """Otherwise a learned prompt is of no use outside this package."""

        def predict(clip: nn.Module) -> list[list[float]]:
            pipe = pipeline(
                "zero-shot-image-classification", model=clip, tokenizer=tokenizer, image_processor=image_processor
            )
            found = pipe(images, candidate_labels=NAMES, hypothesis_template="{}.")
            scores = [{each["label"]: each["score"] for each in of_image} for of_image in found]
            return [[of_image[name] for name in NAMES] for of_image in scores]

        model.set_classes(NAMES, tokenizer, template="{}.")
        learned = torch.tensor(predict(model.get_base_model()))
        assert_close(learned, model(pixel_values=pixel_values).logits.softmax(-1).detach(), 1e-6)
        with model.disable_adapter():
            plain = torch.tensor(predict(model.get_base_model()))
        untouched = CLIPModel.from_pretrained(clip.name_or_path)
        assert_close(plain, torch.tensor(predict(untouched)), 1e-6)
        assert (learned - plain).abs().max() > 1e-3

    def test_other_classes_can_be_set(self, model, tokenizer, pixel_values):
        """Otherwise a prompt learned on some classes cannot be tried on others."""
        before = model(pixel_values=pixel_values).logits
        model.set_classes(["dog", *NAMES], tokenizer, template="{}")
        after = model(pixel_values=pixel_values).logits
        assert after.shape == (len(pixel_values), 4)
        assert_close(after[:, 1:], before, 1e-5)

    def test_other_classes_can_be_tried_for_a_while(self, model, tokenizer, pixel_values):
        """Otherwise evaluating on novel classes changes what is saved, also when it fails."""
        before = model(pixel_values=pixel_values).logits
        with model.using_classes(["dog", "tree"], tokenizer, "a {}"):
            assert model(pixel_values=pixel_values).logits.shape[1] == 2
        assert torch.equal(model(pixel_values=pixel_values).logits, before)
        with pytest.raises(KeyError), model.using_classes(["dog", "tree"], tokenizer):
            raise KeyError
        with pytest.raises(ValueError, match="at least two"), model.using_classes(["dog"], tokenizer):
            pass
        assert torch.equal(model(pixel_values=pixel_values).logits, before)
        assert model.peft_config["default"].class_names == NAMES

    def test_the_processor_serves_as_tokenizer(self, model, tokenizer, image_processor):
        """Otherwise users who hold a `CLIPProcessor` have to take it apart."""
        before = model.get_class_features()
        model.set_classes(NAMES, CLIPProcessor(image_processor, tokenizer))
        assert torch.equal(model.get_class_features(), before)

    def test_every_adapter_has_its_own_classes(self, model, tokenizer, pixel_values):
        """Otherwise switching adapters pairs one's prompt with the other's classes."""
        model.add_adapter("other", CLIPPromptConfig(num_text_tokens=2))
        model.set_adapter("other")
        with pytest.raises(ValueError, match=r"no classes to classify into. Call model.set_classes\(names, tokenizer"):
            model(pixel_values=pixel_values)
        model.set_classes(["dog", "tree"], tokenizer)
        assert model(pixel_values=pixel_values).logits.shape[1] == 2
        model.set_adapter("default")
        assert model(pixel_values=pixel_values).logits.shape[1] == len(NAMES)


class TestFrozenMeansFrozen:
    def test_only_the_prompt_trains(self, model, capsys):
        """Otherwise the optimizer would change CLIP itself."""
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        assert names == ["base_model.model.text_model.embeddings.clip_prompt_context.default"]
        model.print_trainable_parameters()
        assert "trainable params: 128 " in capsys.readouterr().out

    def test_with_the_adapter_disabled_the_base_model_answers_bit_for_bit(self, clip, tokenizer, pixel_values):
        """Otherwise comparisons with zero-shot CLIP compare with something else."""
        texts = tokenizer(TEXTS, padding="max_length", return_tensors="pt")
        before = clip(pixel_values=pixel_values, **texts)
        model = prompted(clip, num_text_tokens=4)
        with model.disable_adapter():
            after = model(pixel_values=pixel_values, **texts)
        assert torch.equal(after.logits_per_image, before.logits_per_image)
        assert torch.equal(after.text_model_output.last_hidden_state, before.text_model_output.last_hidden_state)
        assert not torch.equal(text_features(model, tokenizer), before.text_model_output.pooler_output)

    def test_training_moves_the_prompt_and_nothing_else(self, model, pixel_values):
        """Otherwise the adapter alone does not reproduce what was trained."""
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model.train()
        for _ in range(3):
            a_step(model, pixel_values)
        changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
        assert changed == ["base_model.model.text_model.embeddings.clip_prompt_context.default"]

    def test_training_lowers_the_loss(self, model, pixel_values):
        """Otherwise the gradient does not point where the loss falls."""
        losses = []
        for _ in range(5):
            losses.append(float(model(pixel_values=pixel_values, labels=LABELS).loss.detach()))
            a_step(model, pixel_values)
        assert losses[-1] < losses[0]

    def test_the_saved_file_holds_the_prompt_alone(self, model, saved):
        """Otherwise shared adapters are large, or carry someone's copy of CLIP."""
        assert sorted(path.name for path in saved.iterdir()) == [
            "README.md",
            "adapter_config.json",
            "adapter_model.safetensors",
        ]
        with safe_open(saved / "adapter_model.safetensors", framework="pt") as file:
            (name,) = file.keys()
            assert torch.equal(file.get_tensor(name), context(model))
        assert "clip_prompt_context" in name
        assert "target_modules" not in json.loads((saved / "adapter_config.json").read_text())


class TestSavingAndLoading:
    def test_a_loaded_adapter_classifies_at_once_without_a_tokenizer(
        self, clip, checkpoint, tokenizer, pixel_values, tmp_path, monkeypatch
    ):
        """Otherwise whoever downloads an adapter has to know and repeat its author's classes and template."""
        model = prompted(clip, num_text_tokens=4, text_init=WORDS)
        model.set_classes(NAMES, tokenizer, template="a {}, drawn")
        model.save_pretrained(tmp_path)
        monkeypatch.setattr(AutoTokenizer, "from_pretrained", None)
        loaded = PeftModel.from_pretrained(CLIPModel.from_pretrained(checkpoint), tmp_path)
        assert not any(parameter.requires_grad for parameter in loaded.parameters())
        assert torch.equal(loaded(pixel_values=pixel_values).logits, model(pixel_values=pixel_values).logits)
        config = loaded.peft_config["default"]
        assert (config.class_names, config.class_template) == (NAMES, "a {}, drawn")

    def test_a_prompt_without_classes_loads_and_encodes_any_text(self, clip, checkpoint, tokenizer, tmp_path):
        """Otherwise a prompt learned for retrieval cannot be shared."""
        model = prompted(clip, num_text_tokens=4)
        model.save_pretrained(tmp_path)
        loaded = PeftModel.from_pretrained(CLIPModel.from_pretrained(checkpoint), tmp_path)
        assert torch.equal(text_features(loaded, tokenizer), text_features(model, tokenizer))

    def test_auto_peft_model_finds_the_base_model(self, model, saved, pixel_values):
        """Otherwise an adapter cannot be loaded by its own name alone."""
        loaded = AutoPeftModel.from_pretrained(saved)
        assert torch.equal(loaded(pixel_values=pixel_values).logits, model(pixel_values=pixel_values).logits)

    def test_low_cpu_mem_usage_loads_the_same(self, model, saved, checkpoint, pixel_values):
        """Otherwise the prompt stays on the meta device, or is drawn again."""
        base = CLIPModel.from_pretrained(checkpoint)
        loaded = PeftModel.from_pretrained(base, saved, low_cpu_mem_usage=True)
        assert not any(parameter.is_meta for parameter in loaded.parameters())
        assert torch.equal(loaded(pixel_values=pixel_values).logits, model(pixel_values=pixel_values).logits)

    def test_training_continues_from_a_loaded_adapter(self, model, saved, checkpoint, pixel_values):
        """Otherwise a prompt cannot be tuned further."""
        loaded = PeftModel.from_pretrained(CLIPModel.from_pretrained(checkpoint), saved, is_trainable=True)
        for each in (model, loaded):
            a_step(each.train(), pixel_values)
        assert torch.equal(context(loaded), context(model))
        names = [name for name, parameter in loaded.named_parameters() if parameter.requires_grad]
        assert names == ["base_model.model.text_model.embeddings.clip_prompt_context.default"]


class TestAdapters:
    def test_the_active_one_of_two_is_used_and_trained(self, model, tokenizer, pixel_values):
        """Otherwise one adapter's training or inference uses the other's prompt."""
        first = text_features(model, tokenizer)
        model.add_adapter("words", CLIPPromptConfig(num_text_tokens=3, text_init="a photo of"))
        assert torch.equal(text_features(model, tokenizer), first), "adding does not activate"
        model.set_adapter("words")
        with model.disable_adapter():
            by_hand = text_features(model, tokenizer, [f"a photo of {text}" for text in TEXTS])
        assert_close(text_features(model, tokenizer), by_hand, 1e-6)
        assert context(model, "words").requires_grad
        assert not context(model).requires_grad

        held = context(model).clone()
        model.set_classes(NAMES, tokenizer)
        a_step(model, pixel_values)
        assert torch.equal(context(model), held)
        model.set_adapter("default")
        assert torch.equal(text_features(model, tokenizer), first)
        assert context(model).requires_grad
        assert not context(model, "words").requires_grad

    def test_an_adapter_is_loaded_beside_another(self, model, saved, tokenizer, pixel_values):
        """Otherwise adapters cannot be compared on one base model, and the one in training would freeze."""
        expected = model(pixel_values=pixel_values).logits
        with torch.no_grad():
            context(model).zero_()
        model.load_adapter(saved, "loaded")
        assert context(model).requires_grad
        assert not context(model, "loaded").requires_grad
        model.set_adapter("loaded")
        assert torch.equal(model(pixel_values=pixel_values).logits, expected)

    def test_deleting_the_active_adapter_activates_the_other(self, model, tokenizer):
        """Otherwise a deleted prompt goes on working, or the model stops."""
        first = text_features(model, tokenizer)
        model.add_adapter("other", CLIPPromptConfig(num_text_tokens=2))
        model.set_adapter("other")
        with pytest.warns(UserWarning, match="Setting active adapter to default"):
            model.delete_adapter("other")
        assert torch.equal(text_features(model, tokenizer), first)
        assert not any("other" in name for name in model.state_dict())

    def test_without_any_adapter_the_model_is_the_base_model_until_one_is_added(self, clip, tokenizer):
        """Otherwise deleting the last adapter leaves a model that cannot be used."""
        before = text_features(clip, tokenizer)
        model = prompted(clip, num_text_tokens=4)
        first = text_features(model, tokenizer)
        learned = context(model).detach().clone()
        model.delete_adapter("default")
        assert torch.equal(text_features(model, tokenizer), before)
        with pytest.raises(ValueError, match="no prompt adapter left; add one with add_adapter or load_adapter"):
            model.set_classes(NAMES, tokenizer)
        model.add_adapter("new", CLIPPromptConfig(num_text_tokens=4))
        model.set_adapter("new")
        with torch.no_grad():
            context(model, "new").copy_(learned)
        assert torch.equal(text_features(model, tokenizer), first)

    def test_unload_gives_the_base_model_back(self, clip, tokenizer, pixel_values):
        """Otherwise the base model keeps hooks or a replaced forward, and goes on being prompted."""
        texts = tokenizer(TEXTS, padding=True, return_tensors="pt")
        before = clip(pixel_values=pixel_values, **texts).logits_per_image
        modules = [name for name, _ in clip.named_modules()]
        for _ in range(2):  # and it can be prompted again
            model = prompted(clip, num_text_tokens=4)
            assert not torch.equal(model(pixel_values=pixel_values, **texts).logits_per_image, before)
            assert model.unload() is clip
            assert torch.equal(clip(pixel_values=pixel_values, **texts).logits_per_image, before)
        assert [name for name, _ in clip.named_modules()] == modules
        assert not any(module._forward_pre_hooks or module._forward_hooks for module in clip.modules())
        assert "forward" not in vars(clip)
        with pytest.raises(ValueError, match="input_ids"):
            clip(pixel_values=pixel_values)

    def test_unload_gives_back_a_forward_that_was_there_before(self, clip):
        """Otherwise the hooks that Accelerate put on a dispatched model are lost."""
        forward = clip.forward
        clip.forward = wrapped = lambda *args, **kwargs: forward(*args, **kwargs)
        get_peft_model(clip, CLIPPromptConfig()).unload()
        assert clip.forward is wrapped

    def test_merging_in_place_is_refused(self, model):
        """Otherwise the prompt is silently dropped, and the model shared without it."""
        with pytest.raises(ValueError, match=r"Prompts are inputs, not weights, .* call unload\(\) to get the base"):
            model.merge_adapter()

    def test_a_deep_copy_is_independent(self, model, tokenizer, pixel_values):
        """Otherwise training a copy (for an average of the weights, say) trains the original."""
        before = model(pixel_values=pixel_values).logits
        copied = copy.deepcopy(model)
        assert_close(copied(pixel_values=pixel_values).logits, before, 1e-4)
        a_step(copied, pixel_values)
        copied.set_classes(["dog", "tree"], tokenizer)
        assert (copied(pixel_values=pixel_values).logits.shape, before.shape) == ((4, 2), (4, 3))
        assert torch.equal(model(pixel_values=pixel_values).logits, before)
        base = copied.unload()
        assert "forward" not in vars(base)
        assert torch.equal(model(pixel_values=pixel_values).logits, before)


class TestPrecisionAndSpeed:
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.02), (torch.bfloat16, 0.2)])
    def test_a_base_model_of_half_precision_trains_a_float32_prompt(
        self, model, checkpoint, saved, pixel_values, dtype, tolerance
    ):
        """Otherwise small updates of the prompt are rounded away, or half-precision models cannot be used."""
        expected = model(pixel_values=pixel_values, labels=LABELS)
        base = CLIPModel.from_pretrained(checkpoint, dtype=dtype)
        half = PeftModel.from_pretrained(base, saved, is_trainable=True)
        output = half(pixel_values=pixel_values, labels=LABELS)
        assert output.logits.dtype == dtype
        assert_close(output.logits, expected.logits, tolerance)
        output.loss.backward()
        assert context(half).dtype == context(half).grad.dtype == torch.float32
        assert context(half).grad.isfinite().all()
        assert context(half).grad.norm() > 0

    @pytest.mark.parametrize(("autocast", "dtype"), [(True, torch.float32), (False, torch.bfloat16)])
    def test_autocast_adapter_dtype_is_respected(self, checkpoint, saved, autocast, dtype):
        """Otherwise PEFT's switch for the adapter's precision does nothing."""
        base = CLIPModel.from_pretrained(checkpoint, dtype=torch.bfloat16)
        model = get_peft_model(base, CLIPPromptConfig(text_init=WORDS), autocast_adapter_dtype=autocast)
        model.add_adapter("other", CLIPPromptConfig(), autocast_adapter_dtype=autocast)
        model.load_adapter(saved, "loaded", autocast_adapter_dtype=autocast)
        assert [context(model, name).dtype for name in ("default", "other", "loaded")] == [dtype] * 3

    def test_gradient_checkpointing_gives_the_same_loss_and_gradient(self, model, pixel_values):
        """Otherwise saving memory costs the gradient."""
        model.train()
        expected = model(pixel_values=pixel_values, labels=LABELS).loss
        (expected_gradient,) = torch.autograd.grad(expected, context(model))
        model.gradient_checkpointing_enable()
        forward_calls = count_calls(model.get_base_model().text_model.encoder.layers[0].mlp)
        loss = model(pixel_values=pixel_values, labels=LABELS).loss
        (gradient,) = torch.autograd.grad(loss, context(model))
        assert len(forward_calls) == 2, "computed again in the backward pass"
        assert_close(loss, expected, 1e-6)
        assert_close(gradient, expected_gradient, 1e-6)
