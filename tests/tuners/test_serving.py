"""A thread pool that serves one model: right answers, and nothing that stays behind."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import PeftModel
from transformers import CLIPTokenizer
from tuners.coop import NAMES

from hf_sharp_prompt import CLIPPromptConfig


OTHER_NAMES = [["dog", "tree"], ["green ring", "moon", "a blue heart", "cat"]]


@pytest.fixture
def served(model: PeftModel) -> PeftModel:
    """With two adapters."""
    model.add_adapter("other", CLIPPromptConfig(num_text_tokens=2, num_vision_tokens=2))
    return model.eval()


def requests_of(model: PeftModel, pixels: torch.Tensor) -> list[Callable[[], torch.Tensor]]:
    """Requests as a server gets them; the model finds its tokenizer by itself."""
    return [
        lambda: model.classify(pixels).logits,
        *(lambda names=names: model.classify(pixels, names=names).logits for names in OTHER_NAMES),
        lambda: model.classify(pixels, names=OTHER_NAMES[0], adapter="other").logits,
        lambda: model.classify(pixels, names=OTHER_NAMES[1], adapter="__base__").logits,
    ]


def test_a_pool_answers_rightly_and_keeps_nothing(served, pixel_values):
    """Otherwise a server's memory grows with its requests, until it is killed."""
    requests = requests_of(served, pixel_values[:1])

    @torch.inference_mode()
    def answer(number: int) -> bool:
        which = number % len(requests)
        return torch.allclose(requests[which](), alone[which], rtol=1e-4, atol=1e-5)

    def count_tensors() -> int:
        gc.collect()
        return sum(isinstance(each, torch.Tensor) for each in gc.get_objects())

    with torch.inference_mode():
        alone = [request() for request in requests]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(answer, range(10)))
        before = count_tensors()
        assert all(pool.map(answer, range(80)))
        assert count_tensors() == before
    assert served.active_config.class_names == NAMES


def test_requests_do_not_load_a_tokenizer_each(served, pixel_values, monkeypatch):
    """Otherwise each asks the Hub whether there is a newer one."""
    served.classify(pixel_values[:1], names=OTHER_NAMES[0])
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", None)
    assert served.classify(pixel_values[:1], names=OTHER_NAMES[1]).logits.shape == (1, 4)


def test_names_are_read_while_another_thread_pads_with_the_models_tokenizer(served, tokenizer: CLIPTokenizer):
    """A fast tokenizer holds the padding of a call, so that concurrent calls pad each other's texts."""
    expected, wrong = served.tokenize_names(OTHER_NAMES[1], tokenizer), []

    def read() -> None:
        for _ in range(100):
            wrong.extend([1] * (served.tokenize_names(OTHER_NAMES[1], tokenizer) != expected))

    def pad() -> None:
        while reading.is_alive():
            tokenizer(["cat", "a long text on the moon"], padding=True)

    reading = threading.Thread(target=read)
    padding = threading.Thread(target=pad)
    reading.start()
    padding.start()
    reading.join()
    padding.join()
    assert not wrong


def test_classes_that_another_thread_sets_come_whole(served, tokenizer, pixel_values):
    """Otherwise the token ids of new classes meet the places of the old ones' names."""
    stop = threading.Event()

    def switch() -> None:
        while not stop.is_set():
            for names in (NAMES, OTHER_NAMES[1]):
                served.set_classes(names, tokenizer)

    switching = threading.Thread(target=switch)
    switching.start()
    try:
        with torch.no_grad():
            shapes = {tuple(served.classify(pixel_values).logits.shape) for _ in range(10)}
    finally:
        stop.set()
        switching.join()
    assert shapes <= {(4, 3), (4, 4)}
