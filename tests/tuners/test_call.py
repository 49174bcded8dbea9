"""Any number of threads use one prompted model, each in its own way: nothing of a call stands on a module."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from tuners import contract, vision_models
from tuners.clip_designs import NAMES, TEMPLATE, make_config
from tuners.clip_models import clip_tokenizer, image_inputs, make_model, text_inputs

from hf_sharp_prompt import ViTPromptConfig
from hf_sharp_prompt.tuners.call import asked, asking


THREADS, ROUNDS = 5, 12
OTHER_NAMES = [["dog", "tree"], ["green ring", "moon", "a blue heart", "cat"]]
PIXELS = image_inputs("CLIPModel")["pixel_values"]


def prompted(design: str, model: str = "CLIPModel", **changes: Any) -> PeftModel:
    wrapped = get_peft_model(make_model(model), make_config(design, model, **changes))
    if hasattr(wrapped.get_base_model(), "get_text_features"):
        wrapped.set_classes(NAMES, clip_tokenizer(), TEMPLATE)
    contract.randomise(wrapped)
    return wrapped.eval()


def wrong_answers(requests: list[Callable[[], torch.Tensor]]) -> int:
    """How many of 60 answers, given at the same time, differ from those given alone."""
    with torch.no_grad():
        alone = [request() for request in requests]
    barrier, wrong = threading.Barrier(THREADS, timeout=60), []

    def ask(thread: int) -> None:
        with torch.no_grad():
            for turn in range(ROUNDS):
                barrier.wait()
                which = (thread + turn) % len(requests)
                try:
                    right = torch.allclose(requests[which](), alone[which], rtol=1e-4, atol=1e-5)
                except Exception as error:
                    wrong.append(error)
                else:
                    wrong.extend([which] * (not right))

    threads = [threading.Thread(target=ask, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(wrong)


def texts_of(*texts: str, model: str = "CLIPModel") -> dict[str, torch.Tensor]:
    return text_inputs(model, list(texts))


class TestThreads:
    """Otherwise a served model answers one user with another's prompt."""

    @pytest.mark.parametrize("design", ["end", "middle", "front", "deep text"])
    def test_encode_texts_of_their_own(self, design):
        model = prompted(design)
        texts = [texts_of("cat"), texts_of("a red star", "moon"), texts_of("a big green ring", "cat", "a blue heart")]
        requests = [lambda each=each: model.get_text_features(**each).pooler_output for each in texts]
        assert wrong_answers(requests) == 0

    @pytest.mark.parametrize("model", ["OwlViTTextModel", "SiglipTextModel", "MetaClip2TextModel", "CLIPSegTextModel"])
    def test_do_so_with_other_towers(self, model):
        wrapped = prompted("front", model)
        texts = [texts_of("cat", model=model), texts_of("a red star", "moon", model=model)]
        assert wrong_answers([lambda each=each: wrapped(**each).pooler_output for each in texts]) == 0

    @pytest.mark.parametrize("design", ["conditional", "conditional, front"])
    def test_compare_images_with_texts_of_their_own(self, design):
        model = prompted(design)
        texts = [texts_of("cat"), texts_of("a red star", "a green moon"), texts_of("a big green ring", "cat", "moon")]
        requests = [
            lambda text=text, images=images: model(**text, pixel_values=images).logits_per_image
            for text, images in zip(texts, (PIXELS, PIXELS.flip(0), PIXELS[:1]))
        ]
        assert wrong_answers(requests) == 0

    @pytest.mark.parametrize("design", ["end", "middle", "conditional", "vision, deep", "coupled"])
    def test_classify_among_classes_and_by_adapters_of_their_own(self, design):
        model, tokenizer = prompted(design), clip_tokenizer()
        model.add_adapter("other", make_config(design))
        model.set_adapter("other")
        contract.randomise(model, seed=1)
        model.set_classes(NAMES, tokenizer, TEMPLATE)
        model.set_adapter("default")
        model.eval()

        def among(names: list[str]) -> torch.Tensor:
            with model.using_classes(names, tokenizer):
                return model(pixel_values=PIXELS).logits

        def without() -> torch.Tensor:
            with model.without_prompts():
                return model(pixel_values=PIXELS).logits

        requests = [
            lambda: model(pixel_values=PIXELS).logits,
            lambda: among(OTHER_NAMES[0]),
            lambda: among(OTHER_NAMES[1]),
            lambda: model.classify(PIXELS, adapter="other").logits,
            without,
            lambda: model.encode_images(pixel_values=PIXELS),
        ]
        state = [(name, value.requires_grad) for name, value in model.named_parameters()]
        assert wrong_answers(requests) == 0
        assert [(name, value.requires_grad) for name, value in model.named_parameters()] == state
        assert model.active_config.class_names == NAMES

    def test_classify_by_vit_prompts_of_their_own(self):
        model = get_peft_model(
            vision_models.make_model("ViTModel"), ViTPromptConfig.rsam_pt(num_tokens=3, class_names=["a", "b", "c"])
        )
        contract.randomise(model)
        model.add_adapter("other", ViTPromptConfig.vpt_deep(num_tokens=2, class_names=["d", "e"]))
        model.eval()
        images = [vision_models.pixels()["pixel_values"], torch.randn(3, 3, 24, 24)]
        requests = [
            lambda each=each, name=name: model.classify(each, adapter=name).logits
            for each in images
            for name in (None, "other")
        ]
        assert wrong_answers(requests) == 0

    def test_keep_class_features_apart(self):
        """The Trainer keeps them while it evaluates, where another thread may go on training."""
        model = prompted("end")
        started, trained = threading.Event(), threading.Event()
        got = []

        def evaluate() -> None:
            with model.keeping_class_features(), torch.no_grad():
                before = model.get_class_features()
                started.set()
                trained.wait(20)
                got.append(torch.equal(model.get_class_features(), before))

        thread = threading.Thread(target=evaluate)
        thread.start()
        started.wait(20)
        before = model.get_class_features()
        contract.randomise(model, seed=3)
        assert not torch.equal(model.get_class_features(), before)
        trained.set()
        thread.join()
        assert got == [True]


def test_tasks_of_one_thread_do_not_disturb_each_other():
    """Otherwise a server that answers asynchronously mixes its requests."""
    model, tokenizer = prompted("end"), clip_tokenizer()

    async def ask(names: list[str]) -> tuple[int, ...]:
        with model.using_classes(names, tokenizer):
            await asyncio.sleep(0)
            return tuple(model(pixel_values=PIXELS).logits.shape)

    async def ask_all() -> list[tuple[int, ...]]:
        return await asyncio.gather(*map(ask, OTHER_NAMES))

    assert asyncio.run(ask_all()) == [(2, 2), (2, 4)]


def test_what_is_asked_ends_with_the_block_even_by_an_exception():
    owner, other = object(), object()

    def ask_and_fail() -> None:
        with asking({(owner, "what"): 1}):
            assert (asked(owner, "what"), asked(other, "what"), asked(owner, "else")) == (1, None, None)
            with asking({(owner, "what"): None}):
                assert asked(owner, "what") is None
            assert asked(owner, "what") == 1
            raise KeyError

    with pytest.raises(KeyError):
        ask_and_fail()
    assert asked(owner, "what") is None


def test_the_embeddings_by_themselves_are_the_base_models():
    """Nothing of an earlier call is left on them to be mixed in."""
    model = prompted("front")
    ids = texts_of("a red star")["input_ids"]
    model.get_text_features(**texts_of("cat", "moon"))
    embeddings = model.get_base_model().text_model.embeddings
    expected = make_model("CLIPModel").text_model.embeddings(ids)
    assert torch.equal(embeddings(ids), expected)
