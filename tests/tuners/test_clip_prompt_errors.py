"""What cannot be prompted, read or told apart is said where it is asked for."""

import copy
import json

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import (
    BertConfig,
    BertModel,
    CLIPModel,
    CLIPTextModelWithProjection,
)
from tuners.coop import (
    NAMES,
    WORDS,
    context,
    prompted,
    text_features,
    words_ids,
)

from hf_sharp_prompt import CLIPPromptConfig


class TestErrors:
    """Otherwise users meet an IndexError deep in CLIP, or no error and a prompt that learns nothing."""

    @pytest.mark.parametrize("number", [-3, 4.0, "4", True, None])
    def test_a_number_of_tokens_that_is_none(self, number):
        with pytest.raises(ValueError, match=f"num_text_tokens must be a non-negative integer, got {number!r}"):
            CLIPPromptConfig(num_text_tokens=number)

    def test_more_tokens_than_positions(self, clip, tokenizer):
        """And the base model is as it was: the next attempt, with fewer, works."""
        before = text_features(clip, tokenizer)
        message = (
            "num_text_tokens is 75, but the text tower has 77 positions, .* the most that fits is num_text_tokens=74"
        )
        with pytest.raises(ValueError, match=message):
            get_peft_model(clip, CLIPPromptConfig(num_text_tokens=75))
        assert torch.equal(text_features(clip, tokenizer), before)
        model = prompted(clip, num_text_tokens=74)
        assert text_features(model, tokenizer, ["a"]).isfinite().all()

    def test_more_words_than_tokens(self, clip):
        message = "text_init has 4 tokens but num_text_tokens is 2; shorten it or set num_text_tokens=4"
        with pytest.raises(ValueError, match=message):
            get_peft_model(clip, CLIPPromptConfig(num_text_tokens=2, text_init=WORDS))

    def test_words_without_a_tokenizer_to_read_them(self, another_clip, checkpoint, tokenizer):
        message = f"text_init='{WORDS}' needs a tokenizer, but the base model was not loaded by name; set tokenizer_na"
        with pytest.raises(ValueError, match=message):
            get_peft_model(another_clip(), CLIPPromptConfig(text_init=WORDS))
        named = CLIPPromptConfig(text_init=WORDS, tokenizer_name_or_path=checkpoint)
        given = CLIPPromptConfig(text_init=WORDS, text_init_token_ids=words_ids(tokenizer))
        clip = another_clip()
        ways_out = [get_peft_model(copy.deepcopy(clip), config) for config in (named, given)]
        assert torch.equal(*map(context, ways_out))

    def test_words_read_by_the_tokenizer_of_another_model(self, clip, tokenizer):
        before = text_features(clip, tokenizer)
        message = r"text_init has token 49000, but the model's vocabulary has \d+; use the tokenizer of the base"
        with pytest.raises(ValueError, match=message):
            get_peft_model(clip, CLIPPromptConfig(text_init_token_ids=[320, 49000]))
        assert torch.equal(text_features(clip, tokenizer), before)

    def test_classes_for_a_model_that_sees_nothing(self, clip, tokenizer):
        model = prompted(CLIPTextModelWithProjection(clip.config.text_config))
        with pytest.raises(ValueError, match="does not compare images with texts; use a CLIPModel"):
            model.set_classes(["cat", "dog"], tokenizer)

    def test_two_prompts_at_once(self, model):
        model.add_adapter("other", CLIPPromptConfig(num_text_tokens=2))
        with pytest.raises(ValueError, match="One prompt adapter can be active at a time"):
            model.base_model.set_adapter(["default", "other"])

    def test_an_adapter_of_another_width(self, saved, another_clip):
        message = (
            r"made for .* with text_model \(clip_text_model of width 32 with 2 layers\), but this CLIPModel has "
            r"text_model \(clip_text_model of width 16 with 2 layers\). Load it onto the model it was made for"
        )
        with pytest.raises(ValueError, match=message):
            PeftModel.from_pretrained(another_clip(hidden_size=16, intermediate_size=32), saved)

    def test_an_adapter_whose_config_is_not_its_own(self, saved, clip, checkpoint):
        path = saved / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"num_text_tokens": 6}))
        message = f"of {saved} does not fit its own config: .*context' is 4 × 32 in its file, .* it is 6 × 32"
        with pytest.raises(ValueError, match=message):
            PeftModel.from_pretrained(CLIPModel.from_pretrained(checkpoint), saved)

    def test_an_adapter_whose_classes_another_tokenizer_read(self, saved, another_clip, tokenizer):
        clip = another_clip(vocab_size=300, eos_token_id=299)
        inputs = torch.tensor([[298, 5, 299]])
        before = clip.get_text_features(inputs).pooler_output
        with pytest.raises(ValueError, match=r"'blue heart' has token \d+, but the model's vocabulary has 300"):
            PeftModel.from_pretrained(clip, saved)
        assert torch.equal(clip.get_text_features(inputs).pooler_output, before), "and the model is as it was"

    def test_a_model_of_unknown_type(self, clip):
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        with pytest.raises(ValueError, match="BertModel has no text tower of a type that is known: clip_text_model, "):
            get_peft_model(BertModel(BertConfig(**sizes, vocab_size=10)), CLIPPromptConfig())
        with pytest.raises(
            ValueError,
            match=r"CLIPVisionModel has no text tower .* Set num_text_tokens=0 to prompt its vision tower only",
        ):
            get_peft_model(clip.vision_model, CLIPPromptConfig())

    @pytest.mark.parametrize(
        ("names", "template", "message"),
        [
            (["cat"], "{}", r"at least two classes, got \['cat'\]"),
            ([], "{}", "at least two classes"),
            (["cat", "dog", "cat"], "{}", r"stand more than once: \['cat'\]. Rename or merge them"),
            (["cat", " "], "{}", r"Class 1 has no name \(' '\)"),
            ([None, "cat"], "{}", r"Class 0 has no name \(None\)"),
            ("cat", "{}", "must be a list of class names, got one string: 'cat'"),
            (["cat", "dog"], "a photo", "template must contain {} exactly once, for the class name; got 'a photo'"),
            (["cat", "dog"], "{} or {}", "template must contain {} exactly once"),
            (["cat", "a " * 80], "{}", r"class '(a )+' and the 4 context tokens take 86 positions, .* has 77"),
        ],
    )
    def test_classes_that_cannot_be_told_apart(self, model, tokenizer, pixel_values, names, template, message):
        """And the classes set before stay."""
        with pytest.raises(ValueError, match=message):
            model.set_classes(names, tokenizer, template)
        assert model(pixel_values=pixel_values).logits.shape[1] == len(NAMES)

    def test_a_text_too_long_for_the_positions(self, either_clip, tokenizer):
        model = prompted(either_clip, num_text_tokens=4)
        fits = text_features(model, tokenizer, ["a " * 71])
        assert fits.isfinite().all()
        message = "A text of 74 tokens and 4 context tokens exceed the 77 positions .* shorten the text to 73 tokens"
        with pytest.raises(ValueError, match=message):
            text_features(model, tokenizer, ["a " * 72, "cat"])

    def test_a_tokenizer_of_another_model(self, model, another_clip, tokenizer):
        larger = prompted(another_clip(vocab_size=600, eos_token_id=599), num_text_tokens=4)
        with pytest.raises(ValueError, match=r"has token \d+, but the model's vocabulary has 600; use the"):
            larger.set_classes(NAMES, tokenizer)
        # All ids are known, but the tower would find no end of the text and read it at its start.
        other = prompted(another_clip(vocab_size=2000, eos_token_id=1999), num_text_tokens=4)
        with pytest.raises(ValueError, match="'blue heart' does not end in the token at which the text tower"):
            other.set_classes(NAMES, tokenizer)
