"""A training loop finds a model that classifies by names through its type, whatever wraps it."""

from peft import LoraConfig, get_peft_model
from transformers import ViTConfig, ViTModel

from hf_sharp_prompt import CLIPPromptConfig, ViTPromptConfig
from hf_sharp_prompt.tuners.prompted_classifier import find_prompted_classifier


def test_a_prompted_clip_is_found_behind_its_peft_model(clip):
    model = get_peft_model(clip, CLIPPromptConfig(num_text_tokens=2))
    assert find_prompted_classifier(model) is model.base_model
    assert find_prompted_classifier(model.base_model) is model.base_model


def test_a_classifier_without_an_adapter_left_is_still_found(clip):
    """The search reads no property: `active_config` would raise here."""
    model = get_peft_model(clip, CLIPPromptConfig(num_text_tokens=2))
    model.base_model.delete_adapter("default")
    assert find_prompted_classifier(model) is model.base_model


def test_other_models_are_no_prompted_classifiers(clip):
    assert find_prompted_classifier(clip) is None
    assert find_prompted_classifier(get_peft_model(clip, LoraConfig(target_modules=["q_proj"]))) is None
    vit = ViTModel(ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16))
    assert find_prompted_classifier(get_peft_model(vit, ViTPromptConfig(num_labels=3))) is None
