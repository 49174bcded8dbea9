"""From class names to token ids: names that the tokenizer cannot tell apart, and tokens that were added to it."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import CLIPTokenizer
from tuners import contract
from tuners.clip_designs import make_config
from tuners.clip_models import clip_tokenizer, image_inputs, make_model, text_inputs, tokenizer_of

from hf_sharp_prompt import CLIPPromptConfig


PIXELS = image_inputs("CLIPModel")["pixel_values"]
ALIKE = ["Crane", "dog", "crane", "crane ", "Dog"]
MESSAGE = "same tokens of 'Crane', 'crane', 'crane ' and of 'dog', 'Dog', so that these classes could never be told"


class TestNamesOfTheSameTokens:
    """They differ for Python and get the same feature, so that one of them is never answered."""

    @pytest.mark.parametrize("model", ["CLIPModel", "SiglipModel"])
    @pytest.mark.parametrize("way", ["set_classes", "using_classes"])
    def test_are_refused_wherever_classes_are_set(self, way, model):
        prompted = get_peft_model(make_model(model), make_config("end"))
        with pytest.raises(ValueError, match=MESSAGE):
            getattr(prompted, way)(ALIKE, tokenizer_of(model))
        assert prompted.active_config.class_names is None

    @pytest.mark.parametrize("class_specific", [False, True])
    def test_are_refused_in_a_config(self, class_specific):
        token_ids = [text_inputs("CLIPModel", [name])["input_ids"][0].tolist() for name in ALIKE]
        config = CLIPPromptConfig(class_names=ALIKE, class_token_ids=token_ids, class_specific=class_specific)
        with pytest.raises(ValueError, match=MESSAGE):
            get_peft_model(make_model("CLIPModel"), config)

    def test_may_be_encoded_all_the_same(self):
        """Names that nothing is classified into, such as an objective's, need not differ."""
        prompted = get_peft_model(make_model("CLIPModel"), make_config("end"))
        features = prompted.encode_names(*prompted.tokenize_names(ALIKE, clip_tokenizer()))
        torch.testing.assert_close(features[0], features[2])


def with_added_token() -> CLIPTokenizer:
    tokenizer = copy.deepcopy(clip_tokenizer())
    tokenizer.add_tokens(["zebrafish"])
    assert len(tokenizer) == len(clip_tokenizer()) + 1
    return tokenizer


def make_room(model: nn.Module) -> None:
    text_model = model.get_submodule("text_model")
    text_model.resize_token_embeddings(len(with_added_token()), mean_resizing=False)
    with torch.no_grad():
        text_model.embeddings.token_embedding.weight[-1] = torch.linspace(-1, 1, 16)


class TestAddedTokens:
    @pytest.mark.parametrize("design", ["end", "front"])
    def test_are_read_whether_room_is_made_before_or_after(self, design, tmp_path):
        """Otherwise the prompted tower goes on looking words up in the old table."""
        names, tokenizer = ["zebrafish", "a red star"], with_added_token()
        first, second = make_model("CLIPModel"), make_model("CLIPModel")
        make_room(first)
        before, after = (get_peft_model(each, make_config(design)) for each in (first, second))
        make_room(after.get_base_model())
        for model in (before, after):
            contract.randomise(model)
            model.eval().set_classes(names, tokenizer)
        expected = before(pixel_values=PIXELS).logits
        assert torch.equal(after(pixel_values=PIXELS).logits, expected)
        after.save_pretrained(tmp_path)
        third = make_model("CLIPModel")
        make_room(third)
        loaded = PeftModel.from_pretrained(third, tmp_path).eval()
        assert torch.equal(loaded(pixel_values=PIXELS).logits, expected)
        with pytest.raises(ValueError, match="has token 1314, but the model's vocabulary has 1314"):
            PeftModel.from_pretrained(make_model("CLIPModel"), tmp_path)

    def test_without_room_are_refused(self):
        model, tokenizer = get_peft_model(make_model("CLIPModel"), make_config("end")), with_added_token()
        message = "has token 1314, but the model's vocabulary has 1314; use the .* or make room .* resize_token_embed"
        with pytest.raises(ValueError, match=message):
            model.set_classes(["zebrafish", "cat"], tokenizer)
        with pytest.raises(ValueError, match=message):
            model.get_text_features(**tokenizer(["a zebrafish"], return_tensors="pt"))

    def test_above_the_end_are_refused_where_texts_are_read_at_the_highest_id(self):
        """They would be taken for the end of the text."""
        base = make_model("CLIPModel")
        make_room(base)
        base.text_model.config.eos_token_id = 2  # as in checkpoints from before EOS was configured rightly
        model = get_peft_model(base, make_config("end"))
        with pytest.raises(ValueError, match="none may have a higher id than the end of the text"):
            model.set_classes(["zebrafish", "cat"], with_added_token())
