"""An adapter's files from outside: nothing is made, and nothing of the base model changes, unless they fit."""

import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPConfig, CLIPForImageClassification, CLIPModel, ViTConfig, ViTForImageClassification

from hf_sharp_prompt import CLIPPromptConfig, ViTPromptConfig


TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
TOKENS = {"vocab_size": 30, "max_position_embeddings": 12, "bos_token_id": 28, "eos_token_id": 29, "pad_token_id": 29}
VISION = {**TEXT, "image_size": 8, "patch_size": 4}
CLASSES = {
    "class_names": ["cat", "dog"],
    "class_token_ids": [[28, 3, 29], [28, 4, 5, 29]],
    "class_name_ends": [2, 3],
}


def clip() -> CLIPModel:
    return CLIPModel(CLIPConfig(text_config=TEXT | TOKENS, vision_config=VISION, projection_dim=16))


def vit() -> ViTForImageClassification:
    return ViTForImageClassification(ViTConfig(**VISION))


BASES = {"clip": clip, "vit": vit}
CONFIGS = {
    "clip": lambda: CLIPPromptConfig(
        num_text_tokens=2, text_depth=2, conditional=True, num_vision_tokens=3, **CLASSES
    ),
    "vit": lambda: ViTPromptConfig(num_tokens=3, class_names=["cat", "dog"]),
}


@pytest.fixture(params=["clip", "vit"])
def saved(request, tmp_path) -> tuple[str, Path]:
    """A kind of model, and the directory of an adapter for it."""
    get_peft_model(BASES[request.param](), CONFIGS[request.param]()).save_pretrained(tmp_path / "adapter")
    return request.param, tmp_path / "adapter"


def refuse(kind: str, path: Path, match: str, **options: Any) -> None:
    """Check that each way of loading ends in one sentence, soon, and leaves the base model as it was."""

    def load_first() -> None:
        PeftModel.from_pretrained(base, path, **options)

    def load_second() -> None:
        prompted.load_adapter(path, "second", **options)

    base, other = BASES[kind](), BASES[kind]()
    prompted = get_peft_model(other, CONFIGS[kind]())
    for model, load in ((base, load_first), (prompted, load_second)):
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        start = time.process_time()
        with pytest.raises(ValueError, match=match) as caught:
            load()
        assert time.process_time() - start < 1
        assert str(caught.value).count("\n") == 0
        after = model.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert list(prompted.peft_config) == ["default"]


def edit_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(path / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, path / "adapter_model.safetensors")


def edit_config(path: Path, **changes: Any) -> None:
    file = path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_what_was_saved_loads_in_every_way(saved):
    kind, path = saved
    expected = load_file(path / "adapter_model.safetensors")
    for options in ({}, {"low_cpu_mem_usage": True}):
        model = PeftModel.from_pretrained(BASES[kind](), path, **options)
        model.load_adapter(path, "second", **options)
        model.load_adapter(path, "second", **options)
        for name in ("default", "second"):
            model.save_pretrained(path.parent / "again", selected_adapters=[name])
            folder = path.parent / "again" / ("" if name == "default" else name)
            again = load_file(folder / "adapter_model.safetensors")
            assert again.keys() == expected.keys()
            assert all(torch.equal(again[key], expected[key]) for key in expected)


@pytest.mark.parametrize("options", [{}, {"low_cpu_mem_usage": True}], ids=["filled", "assigned"])
def test_tensors_named_like_the_base_models(saved, options):
    kind, path = saved
    name, weight = next(iter(BASES[kind]().named_parameters()))
    edit_tensors(path, lambda tensors: tensors.update({f"base_model.model.{name}": torch.zeros_like(weight)}))
    refuse(kind, path, rf"'base_model.model.{name}' is .* in its file, but .* it is not there", **options)


def test_each_missing_tensor(saved):
    kind, path = saved
    tensors = load_file(path / "adapter_model.safetensors")
    for key in tensors:
        save_file({name: each for name, each in tensors.items() if name != key}, path / "adapter_model.safetensors")
        refuse(kind, path, rf"'{key}' is missing in its file")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(saved, value):
    kind, path = saved
    edit_tensors(path, lambda tensors: next(iter(tensors.values())).view(-1)[:1].fill_(value))
    refuse(kind, path, "has values that are not finite, so its training diverged")


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float8_e4m3fn, torch.complex64])
def test_types_that_are_not_of_floating_point(saved, dtype):
    kind, path = saved
    edit_tensors(path, lambda tensors: tensors.update({key: each.to(dtype) for key, each in tensors.items()}))
    refuse(kind, path, "is of type .*, but a prompt must be one of")


def test_an_adapter_that_is_there_keeps_its_values_when_a_file_is_refused(saved):
    """As when a user loads another checkpoint over a prompt that was trained for hours."""
    kind, path = saved
    model = PeftModel.from_pretrained(BASES[kind](), path)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    edit_tensors(path, lambda tensors: next(iter(tensors.values())).view(-1)[:1].fill_(float("nan")))
    with pytest.raises(ValueError, match=r"cannot be filled: .* has values that are not finite"):
        model.load_adapter(path, "default")
    edit_tensors(path, lambda tensors: tensors.pop(next(iter(tensors))))
    with pytest.raises(ValueError, match="is missing in its file"):
        model.load_adapter(path, "default")
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("kind", "field"), [("clip", "num_vision_tokens"), ("vit", "num_tokens"), ("vit", "num_labels")]
)
def test_a_huge_config_makes_nothing(kind, field, tmp_path):
    get_peft_model(BASES[kind](), CONFIGS[kind]()).save_pretrained(tmp_path)
    names = {} if field == "num_vision_tokens" else {"class_names": None}
    edit_config(tmp_path, **{field: 10**13} | names)
    refuse(kind, tmp_path, "in its file, but with its config on this .* 10000000000000")


WRONG = (None, True, -1, 10**30, 2.5, float("nan"), "", "x\n", [], [None], [[]], [-1], {}, {"a": 1}, {"a": "b"})


def error_of(load: Callable[[], Any]) -> str | None:
    try:
        load()
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", ["clip", "vit"])
def test_any_wrong_value_of_any_field_is_refused_by_name_or_harmless(kind, tmp_path):
    get_peft_model(BASES[kind](), CONFIGS[kind]()).save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "adapter_config.json").read_text())
    refused = 0
    for field in fields.keys() - {"peft_type"}:
        for value in WRONG:
            (tmp_path / "adapter_config.json").write_text(json.dumps(fields | {field: value}))
            base = BASES[kind]()
            start = time.process_time()
            message = error_of(lambda: PeftModel.from_pretrained(base, tmp_path))  # noqa: B023 (called at once)
            assert time.process_time() - start < 1, (field, value)
            if message is not None:
                refused += 1
                assert message.strip(), (field, value)
                assert "\n" not in message, (field, value)
                assert not any("prompt" in name for name in base.state_dict()), (field, value)
    assert refused > 5 * len(fields)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is incomplete or not JSON"),
        (b"{", "is incomplete or not JSON"),
        (b"\xff\xfe", "is incomplete or not JSON"),
        (b"[" * 100_000, "is incomplete or not JSON"),
        (b"[1]", "must hold one JSON object"),
        (b'{"num_text_token": 3}', "'num_text_token' is no field of CLIPPromptConfig"),
        (b'{"num_text_tokens": [3]}', r"adapter_config.json: num_text_tokens must be .*, got \[3\]"),
        (b'{"num_text_tokens": true}', "adapter_config.json: num_text_tokens must be .*, got True"),
        (b'{"class_names": "cat"}', "adapter_config.json: class_names must be a list"),
        (b'{"text_init": 3}', "adapter_config.json: text_init must be a string or None"),
        (b'{"made_for": {"a": 3}}', "adapter_config.json: base_model_sizes must be a dictionary"),
        (b'{"auto_mapping": 3}', "adapter_config.json: auto_mapping must be a dictionary"),
    ],
)
def test_a_broken_config_names_file_and_field(content, match, tmp_path):
    (tmp_path / "adapter_config.json").write_bytes(content)
    with pytest.raises(ValueError, match=match):
        CLIPPromptConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"class_token_ids": [[28, 3, 29]]}, "class_token_ids has 1 entries, but there are 2 class_names"),
        ({"class_token_ids": None}, "class_name_ends are places in class_token_ids"),
        ({"class_names": None}, "but there are 0 class_names"),
        ({"class_names": ["cat", "cat"]}, "Class names must differ"),
        ({"class_template": "a"}, "class_template must contain {} exactly once"),
        ({"class_token_ids": [[3, 29], [4, 5, 29]], "class_name_ends": None}, "starts with token 3, but .* with 28"),
        ({"class_token_ids": [[28, 3, 29], [28, 4, 5]], "class_name_ends": None}, "does not end in the token"),
        ({"class_token_ids": [[28, 3, 29], [28, 99, 29]], "class_name_ends": None}, "has token 99, but the model's"),
        ({"class_token_ids": [[28, 3, 29], []]}, r"class_token_ids\[1\] must be token ids"),
        ({"class_token_ids": [[28, 3, 29], [28, -4, 29]]}, r"class_token_ids\[1\] must be token ids"),
        ({"class_name_ends": [2, 9]}, r"class_name_ends\[1\] is 9, but the text of class 'dog' has 4 tokens"),
        ({"class_name_ends": [2]}, "class_name_ends has 1 entries"),
        ({"text_init_token_ids": [-1]}, "text_init_token_ids must be token ids"),
    ],
)
def test_classes_that_contradict_each_other(changes, match, tmp_path):
    get_peft_model(clip(), CONFIGS["clip"]()).save_pretrained(tmp_path)
    edit_config(tmp_path, **changes)
    refuse("clip", tmp_path, match)


def damaged(content: bytes) -> dict[str, bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    name = next(key for key in header if key != "__metadata__")

    def with_header(**changes: Any) -> bytes:
        text = json.dumps(header | {name: header[name] | changes}).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + length :]

    return {
        "empty": b"",
        "short": content[:5],
        "cut in the header": content[:40],
        "cut in the data": content[:-4],
        "longer": content + b"1234",
        "a huge header": struct.pack("<Q", 2**60) + content[8:],
        "no JSON": content[:8] + b"x" * length + content[8 + length :],
        "a pickle": b"PK\x03\x04" + content,
        "a huge shape": with_header(shape=[10**12, 10**6]),
        "offsets beyond": with_header(data_offsets=[0, 2**50]),
        "offsets backwards": with_header(data_offsets=[8, 0]),
        "an unknown type": with_header(dtype="F12"),
        "a negative shape": with_header(shape=[-1]),
    }


def test_damaged_files_of_tensors(saved):
    kind, path = saved
    file = path / "adapter_model.safetensors"
    for what, content in damaged(file.read_bytes()).items():
        file.write_bytes(content)
        base = BASES[kind]()
        with pytest.raises(ValueError, match="is incomplete or not a safetensors file") as caught:
            PeftModel.from_pretrained(base, path)
        assert "\n" not in str(caught.value), what
        assert not any("prompt" in name for name in base.state_dict()), what


def test_a_pickle_is_not_read(saved):
    kind, path = saved
    tensors = load_file(path / "adapter_model.safetensors")
    (path / "adapter_model.safetensors").unlink()
    torch.save(tensors, path / "adapter_model.bin")
    refuse(kind, path, "has its tensors in adapter_model.bin, a pickle")


@pytest.mark.parametrize("kind", ["clip", "vit"])
def test_modules_to_save_bring_their_own_tensors_and_no_others(kind, tmp_path):
    def base() -> nn.Module:
        if kind == "vit":
            return vit()
        config = clip().config
        config.num_labels = 2
        return CLIPForImageClassification(config)

    config = {
        "clip": lambda: CLIPPromptConfig(num_text_tokens=0, num_vision_tokens=2, modules_to_save=["classifier"]),
        "vit": lambda: ViTPromptConfig(num_tokens=2, head=None, modules_to_save=["classifier"]),
    }[kind]
    get_peft_model(base(), config()).save_pretrained(tmp_path)
    model = PeftModel.from_pretrained(base(), tmp_path)
    model.load_adapter(tmp_path, "second")
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    keys = {key for key in tensors if "classifier" in key}
    assert keys == {"base_model.model.classifier.weight", "base_model.model.classifier.bias"}
    for key in keys:
        save_file(
            {name: each for name, each in tensors.items() if name != key}, tmp_path / "adapter_model.safetensors"
        )
        with pytest.raises(ValueError, match=rf"'{key}' is missing in its file"):
            PeftModel.from_pretrained(base(), tmp_path)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    edit_config(tmp_path, modules_to_save=None)
    with pytest.raises(ValueError, match=r"classifier.bias' is .* in its file, but .* not there"):
        PeftModel.from_pretrained(base(), tmp_path)


def test_a_config_from_a_file_may_be_changed_for_a_new_adapter(saved):
    kind, path = saved
    config = type(CONFIGS[kind]()).from_pretrained(path)
    field = {"clip": "num_vision_tokens", "vit": "num_tokens"}[kind]
    setattr(config, field, 5)
    model = get_peft_model(BASES[kind](), config)
    assert any(5 in tensor.shape for name, tensor in model.state_dict().items() if "prompt_" in name)
