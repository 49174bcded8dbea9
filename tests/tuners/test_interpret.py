"""What a learned prompt says in words: the nearest tokens of the vocabulary, as CoOp's users look for them."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel, get_peft_model
from tuners import contract
from tuners.clip_designs import NAMES, make_config
from tuners.clip_models import clip_tokenizer, make_model


TOKENIZER = clip_tokenizer()
WORDS = ["a</w>", "photo</w>", "of</w>", "a</w>"]


@pytest.mark.parametrize("name", ["CLIPModel", "SiglipModel", "CLIPTextModel", "OwlViTForObjectDetection"])
def test_words_say_themselves(name):
    """Otherwise the tokens are looked for in the wrong place, or come in another order."""
    model = get_peft_model(make_model(name), make_config(".coop()", name))
    said = model.interpret_prompts(TOKENIZER)
    assert [tokens[0] for tokens in said] == [(word, 0.0) for word in WORDS]
    assert all(len(tokens) == 3 and tokens[1][1] > 0 for tokens in said)


def context_and_vocabulary(model: PeftModel) -> tuple[torch.Tensor, torch.Tensor]:
    embeddings = model.get_base_model().text_model.embeddings
    return embeddings.clip_prompt_context["default"].detach(), embeddings.token_embedding.weight.detach()


def brute_force(vector: torch.Tensor, vocabulary: torch.Tensor, count: int) -> list[tuple[str, float]]:
    distances = sorted((float(((vector - word) ** 2).sum().sqrt()), index) for index, word in enumerate(vocabulary))
    return [(TOKENIZER.convert_ids_to_tokens(index), distance) for distance, index in distances[:count]]


def assert_same(said: list[tuple[str, float]], expected: list[tuple[str, float]]) -> None:
    assert [token for token, _ in said] == [token for token, _ in expected]
    assert [distance for _, distance in said] == pytest.approx([distance for _, distance in expected], rel=1e-4)


def test_nearest_tokens_and_distances_are_those_of_brute_force():
    """Otherwise the words reported are not the nearest ones."""
    model = get_peft_model(make_model("CLIPModel"), make_config("deep text"))
    contract.randomise(model)
    embeddings = model.get_base_model().text_model.embeddings
    context, vocabulary = (
        embeddings.clip_prompt_context["default"].detach(),
        embeddings.token_embedding.weight.detach(),
    )
    said = model.interpret_prompts(TOKENIZER, count=5)
    for tokens, vector in zip(said, context, strict=True):
        assert_same(tokens, brute_force(vector, vocabulary, 5))


def test_class_specific_contexts_speak_for_each_class():
    """Otherwise one cannot see which class learned which words."""
    model = get_peft_model(make_model("CLIPModel"), make_config("class-specific"))
    contract.randomise(model)
    embeddings = model.get_base_model().text_model.embeddings
    contexts, vocabulary = (
        embeddings.clip_prompt_context["default"].detach(),
        embeddings.token_embedding.weight.detach(),
    )
    said = model.interpret_prompts(TOKENIZER, count=2)
    assert len(said) == len(NAMES)
    for of_class, context in zip(said, contexts, strict=True):
        for tokens, vector in zip(of_class, context, strict=True):
            assert_same(tokens, brute_force(vector, vocabulary, 2))


def test_only_the_active_adapter_speaks():
    """Otherwise the words of another adapter are reported."""
    model = get_peft_model(make_model("CLIPModel"), make_config("end"))
    model.add_adapter("words", make_config(".coop()"))
    assert len(model.interpret_prompts(TOKENIZER)) == 3
    model.set_adapter("words")
    assert [tokens[0][0] for tokens in model.interpret_prompts(TOKENIZER)] == WORDS
