"""A release of peft, transformers or accelerate that changes what compat reaches into is noticed here."""

import inspect
import json

import pytest
from peft import PeftModel
from peft.config import PeftConfigMixin


def test_peft_still_looks_the_method_up_where_it_is_explained():
    look_up = inspect.unwrap(PeftConfigMixin._get_peft_type.__func__)
    assert "Can't find" in inspect.getsource(look_up), (
        "peft's PeftConfigMixin._get_peft_type has changed: read it again, and change or drop "
        "hf_sharp_prompt.compat.explain_failed_loading."
    )


def test_a_hub_that_fails_is_quoted(clip, monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("the line is dead")

    monkeypatch.setattr("peft.config.hf_hub_download", refuse)
    with pytest.raises(ValueError, match=r"Can't find 'adapter_config.json' at 'me/pets': ConnectionError: the"):
        PeftModel.from_pretrained(clip, "me/pets")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is no JSON"), (json.dumps({"r": 8}), "has no field 'peft_type'")],
)
def test_a_config_that_names_no_method_is_named(text, message, clip, tmp_path):
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(ValueError, match=f"The adapter_config.json of .* {message}"):
        PeftModel.from_pretrained(clip, str(tmp_path))
