"""Files from outside that are no checkpoints: the command says so on one line and ends with 2, and nothing is made."""

import json
import pickle
import random
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from hf_sharp_prompt import CLIPPromptConfig
from hf_sharp_prompt.convert import __main__ as command_line
from hf_sharp_prompt.demo import CLIP_PATH


WIDTH = 128
CONTEXT = torch.full((4, WIDTH), 0.1)


@pytest.fixture
def convert(tmp_path, monkeypatch, capsys):
    """Convert a file or directory; return the last line of what is said, which must be the only one of an error."""

    def convert(source: Path) -> str | None:
        target = tmp_path / "out" / "target"
        arguments = ["convert", str(source), str(target), "--base", str(CLIP_PATH)]
        monkeypatch.setattr(sys, "argv", arguments)
        code = 0
        try:
            command_line.main()
        except SystemExit as ended:
            code = ended.code
        if code:
            assert code == 2
            said = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
            assert len(said) == 1
            assert not target.exists()
            return said[0].partition(": error: ")[2]
        target.rename(tmp_path / f"done{random.random()}")
        return None

    return convert


@pytest.mark.parametrize(
    ("state_dict", "message"),
    [
        ({}, "neither ctx nor image_encoder.VPT"),
        ({1: CONTEXT}, "the key 1, which is no name"),
        ({None: CONTEXT}, "the key None, which is no name"),
        ({("ctx",): CONTEXT}, r"the key ('ctx',), which is no name"),
        ({"ctx": 3}, "no 'state_dict' of tensors"),
        ({"ctx": torch.tensor(1.0)}, "ctx is one number"),
        ({"prompt_learner.ctx": torch.tensor(1.0)}, "ctx is one number"),
        ({"ctx": torch.zeros(0, WIDTH)}, "both 0"),
        ({"ctx": torch.zeros(4, 7)}, "ctx is 4 × 7 in"),
        ({"ctx": torch.zeros(1, 1).expand(10**6, 10**6)}, "num_text_tokens is 1000000"),
        ({"ctx": torch.zeros(1).expand(4, 10**12)}, "ctx is 4 × 1000000000000 in"),
        ({"ctx": CONTEXT.long()}, "is of type torch.int64"),
        ({"ctx": CONTEXT.bool()}, "is of type torch.bool"),
        ({"ctx": CONTEXT.to(torch.complex64)}, "is of type torch.complex64"),
        ({"ctx": CONTEXT * float("nan")}, "not finite"),
        ({"ctx": CONTEXT * float("inf")}, "not finite"),
        ({"ctx": CONTEXT.to_sparse()}, "is sparse"),
        ({"ctx": CONTEXT.to("meta")}, "is without values"),
        ({"ctx": CONTEXT, "token_prefix": torch.tensor(1.0)}, "token_prefix in"),
        ({"ctx": CONTEXT, "token_prefix": torch.ones(3)}, "but it is 3."),
        ({"ctx": CONTEXT, "token_prefix": torch.ones(0, 1, WIDTH)}, "but it is 0 × 1 × 128."),
        ({"ctx": CONTEXT, "token_prefix": torch.ones(2, 1, 7)}, "but it is 2 × 1 × 7."),
        ({"ctx": CONTEXT, "token_prefix": torch.zeros(2, 1, WIDTH)}, "all 0"),
        ({"ctx": CONTEXT, "token_prefix": torch.full((2, 1, WIDTH), float("nan"))}, "another CLIP"),
        ({"image_encoder.VPT": torch.tensor(1.0)}, "image_encoder.VPT is one number"),
    ],
)
def test_tensors_that_no_checkpoint_has(state_dict, message, convert, tmp_path):
    torch.save({"state_dict": state_dict}, tmp_path / "model.pth.tar-1")
    assert message in convert(tmp_path / "model.pth.tar-1")


def test_bytes_that_are_no_checkpoint(convert, tmp_path):
    file = tmp_path / "file"
    for content in (b"", b"text", b"\0" * 1000, pickle.dumps({"state_dict": {}}), b"PK\x05\x06" + b"\0" * 18):
        file.write_bytes(content)
        assert "is damaged, or was not written by torch.save" in convert(file)


def test_changed_bytes_never_end_in_a_traceback(convert, tmp_path):
    torch.save({"state_dict": {"ctx": CONTEXT}}, tmp_path / "whole")
    whole, draw = (tmp_path / "whole").read_bytes(), random.Random(0)
    refused = 0
    for _ in range(40):
        content = bytearray(whole)
        for _ in range(3):
            content[draw.randrange(len(content))] = draw.randrange(256)
        (tmp_path / "changed").write_bytes(content)
        refused += convert(tmp_path / "changed") is not None
    assert refused > 5


def test_a_file_that_unpacks_to_more_than_its_size_is_not_unpacked(convert, tmp_path):
    torch.save({"state_dict": {"ctx": torch.zeros(2**20)}}, tmp_path / "large")
    with (
        zipfile.ZipFile(tmp_path / "large") as large,
        zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in large.infolist():
            bomb.writestr(entry.filename, large.read(entry))
    assert "would unpack to 4,19" in convert(tmp_path / "bomb")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}", "is an adapter of type None"),
        (b"[]", "must hold one JSON object"),
        (b"{", "is incomplete or not JSON"),
        (b"\xff", "is incomplete or not JSON"),
        (b'{"peft_type": []}', "is an adapter of type []"),
        (b'{"peft_type": "CLIP_PROMPT", "num_text_tokens": "x"}', "num_text_tokens must be"),
        (b'{"peft_type": "CLIP_PROMPT", "other": 1}', "'other' is no field"),
        (b'{"peft_type": "CLIP_PROMPT"}', "has no adapter_model.safetensors"),
    ],
)
def test_directories_that_hold_no_adapter(content, message, convert, tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_bytes(content)
    assert message in convert(tmp_path / "adapter")


def test_adapters_whose_tensors_are_not_their_configs(convert, tmp_path):
    folder = tmp_path / "adapter"
    config: dict[str, Any] = {"num_text_tokens": 2, "text_depth": 2, "num_vision_tokens": 2}
    get_peft_model(CLIPModel.from_pretrained(CLIP_PATH), CLIPPromptConfig(**config)).save_pretrained(folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    for key in tensors:
        save_file({name: each for name, each in tensors.items() if name != key}, folder / "adapter_model.safetensors")
        assert "is missing" in convert(folder)
    save_file(tensors, folder / "adapter_model.safetensors")
    fields = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(fields | {"text_depth": 3}))
    assert "clip_prompt_deep_context is 1 × 2 × 128, not 2 × tokens × width" in convert(folder)
