"""Prompts from released checkpoints to adapters and back: nothing lost, the same logits, nothing run or half done."""

import json
import os
import pickle
import runpy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from convert.checkpoints import (
    DESIGNS,
    FEATURES,
    LAYERS,
    NAMES,
    TEXT,
    VISION,
    StateDict,
    class_specific,
    cocoop,
    coop,
    ivlp,
    maple,
    save,
    vpt,
    with_what_stands_still,
)
from convert.slow_model import SlowModel
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, SiglipConfig, SiglipModel, set_seed

from hf_sharp_prompt import CLIPPromptConfig
from hf_sharp_prompt.convert import __main__ as command_line
from hf_sharp_prompt.convert import adapter_from_checkpoint, checkpoint_from_adapter


@pytest.fixture(scope="module")
def base(tokenizer: CLIPTokenizer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The directory of a random CLIP whose towers differ in width."""
    path = tmp_path_factory.mktemp("base")
    layers = {"num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 64}
    tokens = {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id}
    tokens |= {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = CLIPConfig(
        text_config={"hidden_size": TEXT, **layers, **tokens},
        vision_config={"hidden_size": VISION, "image_size": 48, "patch_size": 16, **layers},
        projection_dim=FEATURES,
    )
    set_seed(1)
    CLIPModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture
def clip(base: str) -> CLIPModel:
    return CLIPModel.from_pretrained(base).eval()


# ---------------------------------------------------------------------------------------------------------------------
# The files


def converted(design: str, learned: StateDict, base: str, clip: CLIPModel, path: Path) -> PeftModel:
    """The design's file, as an adapter on a CLIP."""
    file = save(path / "prompt_learner" / "model.pth.tar-50", with_what_stands_still(design, learned, clip))
    adapter_from_checkpoint(file, path / "adapter", base, NAMES)
    return PeftModel.from_pretrained(clip, path / "adapter").eval()


# ---------------------------------------------------------------------------------------------------------------------
# What they say


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("design", DESIGNS)
def test_there_and_back_gives_the_same_bits(
    design: str, dtype: torch.dtype, base: str, clip: CLIPModel, tmp_path: Path
) -> None:
    learned = {name: tensor.to(dtype) for name, tensor in DESIGNS[design]().items()}
    model = converted(design, learned, base, clip, tmp_path)
    assert sum(map(torch.numel, learned.values())) == sum(
        each.numel() for name, each in model.named_parameters() if "clip_prompt_" in name
    )
    model.save_pretrained(tmp_path / "again")
    back = tmp_path / "back" / "model.pth.tar-7"
    checkpoint_from_adapter(tmp_path / "again", back)
    content = torch.load(back, weights_only=True)
    assert content["epoch"] == 7
    assert content.keys() == {"state_dict", "epoch", "optimizer", "scheduler", "val_result"}
    assert content["state_dict"].keys() == learned.keys()
    for name, tensor in content["state_dict"].items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, learned[name].float()), name


@pytest.mark.parametrize("design", ["cocoop", "maple"])
def test_loads_under_any_name(design: str, base: str, clip: CLIPModel, tmp_path: Path) -> None:
    learned = DESIGNS[design]()
    file = save(tmp_path / "model.pth.tar-50", with_what_stands_still(design, learned, clip))
    adapter_from_checkpoint(file, tmp_path / "adapter", base)
    model = PeftModel.from_pretrained(clip, tmp_path / "adapter", adapter_name="released")
    held = [each for name, each in model.named_parameters() if "clip_prompt_" in name]
    held += [row for each in held if each.dim() == 3 for row in each]  # of deeper layers
    assert all(any(torch.equal(tensor, each) for each in held) for tensor in learned.values())


def test_file_of_an_old_torch(base: str, clip: CLIPModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 1.6 torch wrote no zip files."""
    learned, new = coop(), torch.save
    monkeypatch.setattr(torch, "save", partial(new, _use_new_zipfile_serialization=False))
    file = save(tmp_path / "model.pth.tar-50", learned)
    adapter_from_checkpoint(file, tmp_path / "adapter", base)
    model = PeftModel.from_pretrained(clip, tmp_path / "adapter")
    assert any(torch.equal(learned["ctx"], each) for each in model.parameters())


@pytest.mark.parametrize("design", [name for name in DESIGNS if name != "cocoop"])
def test_same_logits_as_the_repositorys_model(
    design: str, base: str, clip: CLIPModel, tokenizer: CLIPTokenizer, pixel_values: torch.Tensor, tmp_path: Path
) -> None:
    learned = DESIGNS[design]()
    model = converted(design, learned, base, clip, tmp_path).double()
    slow = SlowModel(learned, base, tokenizer)
    with model.disable_adapter(), torch.no_grad():
        without = model.get_image_features(pixel_values.double()).pooler_output
    images = slow.encode_images(pixel_values.double())
    if "vpt" in design or "maple" in design or design == "ivlp":
        assert (images - without).abs().max() > 0.01  # the vision tokens do something
    expected = slow.logits(images, slow.encode_classes())
    with torch.no_grad():
        logits = model(pixel_values=pixel_values.double()).logits
    torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-10)


def test_same_logits_as_cocoops_model(
    base: str, clip: CLIPModel, tokenizer: CLIPTokenizer, pixel_values: torch.Tensor, tmp_path: Path
) -> None:
    learned = cocoop()
    model = converted("cocoop", learned, base, clip, tmp_path).double()
    slow = SlowModel(learned, base, tokenizer)
    net = {name: tensor.double() for name, tensor in learned.items()}
    expected = []
    for image in normalize(slow.encode_images(pixel_values.double()), dim=-1):
        hidden = (net["meta_net.linear1.weight"] @ image + net["meta_net.linear1.bias"]).clamp(min=0)
        shift = net["meta_net.linear2.weight"] @ hidden + net["meta_net.linear2.bias"]
        expected.append(slow.logits(image, slow.encode_classes(net["ctx"] + shift)))
    with torch.no_grad():
        logits = model(pixel_values=pixel_values.double()).logits
    torch.testing.assert_close(logits, torch.stack(expected), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("position", ["middle", "front"])
@pytest.mark.parametrize("design", ["coop", "class_specific"])
def test_name_stands_where_coop_was_told(
    design: str,
    position: str,
    base: str,
    clip: CLIPModel,
    tokenizer: CLIPTokenizer,
    pixel_values: torch.Tensor,
    tmp_path: Path,
) -> None:
    learned = DESIGNS[design]()
    file = save(tmp_path / "model.pth.tar-50", with_what_stands_still(design, learned, clip))
    adapter_from_checkpoint(file, tmp_path / "adapter", base, NAMES, class_token_position=position)
    model = PeftModel.from_pretrained(clip, tmp_path / "adapter").eval().double()
    slow = SlowModel(learned, base, tokenizer, position)
    expected = slow.logits(slow.encode_images(pixel_values.double()), slow.encode_classes())
    with torch.no_grad():
        logits = model(pixel_values=pixel_values.double()).logits
    torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("design", "template"),
    [("coop", "{}."), ("cocoop", "{}."), ("maple", "of a {}."), ("ivlp", "of a {}."), ("vpt", "a photo of a {}.")],
)
def test_without_names_the_template_is_told(
    design: str, template: str, base: str, clip: CLIPModel, tmp_path: Path
) -> None:
    file = save(tmp_path / "model.pth.tar-5", with_what_stands_still(design, DESIGNS[design](), clip))
    assert adapter_from_checkpoint(file, tmp_path / "adapter", base).class_template == template
    saved = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert saved["class_template"] == template
    assert saved["class_names"] is None
    assert saved["base_model_name_or_path"] == base


# ---------------------------------------------------------------------------------------------------------------------
# Files that are refused


def convert(state_dict: StateDict, base: str, path: Path, names: list[str] | None = NAMES) -> None:
    adapter_from_checkpoint(save(path / "model.pth.tar-1", state_dict), path / "adapter", base, names)


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_file_is_not_run(base: str, tmp_path: Path, protocol: int) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    file = tmp_path / "model.pth.tar-1"
    for content in ({"state_dict": coop(), "scheduler": Malicious()}, {"state_dict": {"ctx": Malicious()}}):
        torch.save(content, file, pickle_protocol=protocol)
        with pytest.raises(ValueError, match=r"model\.pth\.tar-1 is (refused: loading it would run|damaged)"):
            adapter_from_checkpoint(file, tmp_path / "adapter", base)
    assert [each.name for each in tmp_path.iterdir()] == ["model.pth.tar-1"]


def test_harmless_looking_code_is_not_run_either(base: str, tmp_path: Path) -> None:
    """Classes that read well may run code all the same, so only names that Dassl saves are passed over."""
    file = tmp_path / "model.pth.tar-1"
    torch.save({"state_dict": coop(), "scheduler": nn.Linear(2, 2)}, file)
    with pytest.raises(ValueError, match=r"would run torch\.nn\.modules\.linear\.Linear"):
        adapter_from_checkpoint(file, tmp_path / "adapter", base)


def test_nothing_of_the_optimizer_is_run(
    base: str, clip: CLIPModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save(tmp_path / "model.pth.tar-1", with_what_stands_still("coop", coop(), clip))
    monkeypatch.delattr(torch.optim.SGD, "__setstate__")
    monkeypatch.setattr(torch.optim.Optimizer, "__setstate__", lambda *_: pytest.fail("the optimizer was made"))
    adapter_from_checkpoint(file, tmp_path / "adapter", base)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_truncated_file(base: str, tmp_path: Path, keep: float) -> None:
    file = save(tmp_path / "model.pth.tar-1", coop())
    content = file.read_bytes()
    file.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(ValueError, match=r"model\.pth\.tar-1 is damaged") as raised:
        adapter_from_checkpoint(file, tmp_path / "adapter", base)
    assert "weights_only" not in str(raised.value)  # no advice to load it unsafely


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 1}, {"state_dict": [1]}, {"state_dict": {"ctx": 1}}])
def test_file_of_another_layout(base: str, tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="no 'state_dict' of tensors"):
        adapter_from_checkpoint(tmp_path / "other.pt", tmp_path / "adapter", base)


def test_text_file_and_no_file(base: str, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("no checkpoint")
    with pytest.raises(ValueError, match="notes is damaged"):
        adapter_from_checkpoint(tmp_path / "notes", tmp_path / "adapter", base)
    (tmp_path / "pickle").write_bytes(pickle.dumps({"state_dict": {}}))
    with pytest.raises(ValueError, match="pickle is damaged"):
        adapter_from_checkpoint(tmp_path / "pickle", tmp_path / "adapter", base)
    with pytest.raises(ValueError, match=r"no file .*nowhere"):
        adapter_from_checkpoint(tmp_path / "nowhere", tmp_path / "adapter", base)


def without(state_dict: StateDict, *names: str) -> StateDict:
    return {name: tensor for name, tensor in state_dict.items() if name not in names}


@pytest.mark.parametrize(
    ("state_dict", "message"),
    [
        ({"weight": torch.ones(2)}, "neither ctx nor image_encoder.VPT is in it, but weight"),
        ({"ctx": torch.ones(TEXT)}, "ctx should be tokens × width, but has 1 dimensions"),
        (coop() | {"gate": torch.ones(1)}, "looks like CoOp, but has gate besides"),
        (without(cocoop(), "meta_net.linear2.bias"), r"looks like CoCoOp, but lacks meta_net\.linear2\.bias"),
        (without(maple(), "prompt_learner.proj.bias"), r"looks like MaPLe, but lacks proj\.bias"),
        (
            without(maple(), "prompt_learner.compound_prompts_text.0"),
            r"lacks compound_prompts_text\.0 and has compound_prompt_projections\.1\.bias, .* besides",
        ),
        (maple() | {"prompt_learner.gate": torch.ones(1)}, "looks like MaPLe, but has gate besides"),
        (without(ivlp(), "image_encoder.VPT"), "looks like IVLP, but has image_encoder"),
        (
            without(vpt(), "image_encoder.transformer.resblocks.1.VPT_shallow"),
            r"lacks image_encoder\.transformer\.resblocks\.1\.VPT_shallow and has .*2\.VPT_shallow besides",
        ),
        (
            maple() | {"prompt_learner.meta_net.linear1.bias": torch.ones(1)},
            r"looks like MaPLe, but has meta_net\.linear1\.bias besides",
        ),
    ],
)
def test_parts_that_lack_or_are_too_many(base: str, tmp_path: Path, state_dict: StateDict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        convert(state_dict, base, tmp_path)
    assert "model.pth.tar-1" in str(raised.value)
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(
    ("state_dict", "message"),
    [
        ({"ctx": torch.ones(4, 512)}, f"ctx is 4 × 512 in .*model.pth.tar-1, but for .* it would be 4 × {TEXT}"),
        (maple() | {"prompt_learner.proj.weight": torch.ones(64, TEXT)}, f"is 64 × {TEXT} in .* be {VISION} × {TEXT}"),
        (
            maple() | {"prompt_learner.compound_prompts_text.1": torch.ones(3, TEXT)},
            r"compound_prompts_text\.1 is 3 ×",
        ),
        (cocoop() | {"meta_net.linear1.weight": torch.ones(1, 512)}, f"is 1 × 512 in .* be 1 × {FEATURES}"),
        (maple(depth=9), "tar-1 does not fit .*: text_depth is 9, but the text tower has 3 layers"),
        (vpt(depth=9), "tar-1 does not fit .*: vision_depth is 9, but the vision tower has 3 layers"),
        ({"ctx": torch.ones(2, 4, TEXT)}, f"ctx is 2 × 4 × {TEXT} in .* and 3 class names it would be 3 × 4 × {TEXT}"),
        (coop(75), "tar-1 does not fit .*: num_text_tokens is 75"),
    ],
)
def test_base_model_that_does_not_fit_is_named_with_the_file(
    base: str, tmp_path: Path, state_dict: StateDict, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        convert(state_dict, base, tmp_path)
    assert base in str(raised.value)
    assert not (tmp_path / "adapter").exists()


def test_prompt_of_another_clip_of_the_same_shape(base: str, checkpoint: str, tmp_path: Path) -> None:
    """CLIPs with ResNet and ViT have text towers of one shape; a prompt of another one would be nonsense, silently."""
    other = with_what_stands_still("coop", coop(), CLIPModel.from_pretrained(checkpoint))
    with pytest.raises(ValueError, match="trained on another CLIP"):
        convert(other, base, tmp_path)


def test_base_model_of_another_kind(tmp_path: Path) -> None:
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 8, "intermediate_size": 8}
    SiglipModel(SiglipConfig(text_config={**layers, "vocab_size": 9}, vision_config=layers)).save_pretrained(
        tmp_path / "siglip"
    )
    with pytest.raises(ValueError, match=r"made for a CLIPModel, but .*siglip is a SiglipModel"):
        convert(coop(), str(tmp_path / "siglip"), tmp_path)


def test_names_are_a_list(base: str, tmp_path: Path) -> None:
    """One string would be taken for names of one letter each."""
    with pytest.raises(ValueError, match="class_names must be a list of names, got one string: 'cat'"):
        convert(coop(), base, tmp_path, names="cat")


@pytest.mark.parametrize("learned", [coop(), class_specific()])
def test_names_must_differ(base: str, tmp_path: Path, learned: StateDict) -> None:
    with pytest.raises(ValueError, match="Class names must differ"):
        convert(learned, base, tmp_path, names=["cat", "cat", "dog"])


def test_position_that_the_design_does_not_have(base: str, tmp_path: Path) -> None:
    file = save(tmp_path / "model.pth.tar-1", maple())
    with pytest.raises(ValueError, match="text_depth=3 needs class_token_position='end', not 'front'"):
        adapter_from_checkpoint(file, tmp_path / "adapter", base, NAMES, class_token_position="front")


def test_template_without_a_place_for_the_name(base: str, tmp_path: Path) -> None:
    file = save(tmp_path / "model.pth.tar-1", coop())
    with pytest.raises(ValueError, match=r"class_template must contain \{\} exactly once"):
        adapter_from_checkpoint(file, tmp_path / "adapter", base, class_template="a photo")


@pytest.mark.parametrize(
    ("design", "recorded"),
    [(name, {"kgcoop": "coop", "prograd": "coop", "class_specific": "coop"}.get(name, name)) for name in DESIGNS],
)
def test_the_adapter_records_the_design(
    design: str, recorded: str, base: str, clip: CLIPModel, tmp_path: Path
) -> None:
    model = converted(design, DESIGNS[design](), base, clip, tmp_path)
    assert model.active_peft_config.design == recorded.removeprefix("shallow_")


def test_class_specific_contexts_need_their_classes(base: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a context for each of 3 classes, but does not tell which"):
        convert(class_specific(), base, tmp_path, names=None)


# ---------------------------------------------------------------------------------------------------------------------
# Adapters that are refused


def test_directory_that_is_no_adapter(clip: CLIPModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not the directory of an adapter: it has no adapter_config\.json"):
        checkpoint_from_adapter(tmp_path, tmp_path / "model.pth.tar-1")
    get_peft_model(clip, LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path / "lora")
    with pytest.raises(ValueError, match=r"adapter of type .*LORA, not a prompt"):
        checkpoint_from_adapter(tmp_path / "lora", tmp_path / "model.pth.tar-1")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"conditional": True, "num_vision_tokens": 2},
            "meta-net makes of the image and 2 vision tokens, which no repository does together",
        ),
        (
            {"conditional": True, "class_token_position": "front"},
            "class_token_position='front', which the repository of CoCoOp does not know",
        ),
        (
            {"num_vision_tokens": 2, "class_token_position": "middle"},
            "class_token_position='middle', which the repository of IVLP does not know",
        ),
        ({"modules_to_save": ["visual_projection"]}, "has .*visual_projection.* besides its prompt"),
    ],
)
def test_design_that_no_repository_has(clip: CLIPModel, tmp_path: Path, config: dict, message: str) -> None:
    get_peft_model(clip, CLIPPromptConfig(**config)).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match=message):
        checkpoint_from_adapter(tmp_path / "adapter", tmp_path / "model.pth.tar-1")
    assert not (tmp_path / "model.pth.tar-1").exists()


# ---------------------------------------------------------------------------------------------------------------------
# What is written


def test_nothing_is_overwritten(base: str, tmp_path: Path) -> None:
    file = save(tmp_path / "model.pth.tar-1", coop())
    adapter_from_checkpoint(file, tmp_path / "adapter", base)
    with pytest.raises(ValueError, match=r"adapter exists already"):
        adapter_from_checkpoint(file, tmp_path / "adapter", base)
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"model\.pth\.tar-1 exists already"):
        checkpoint_from_adapter(tmp_path / "adapter", file)
    assert file.read_bytes() == before


def test_nothing_is_half_written(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("No space left on device")

    file = save(tmp_path / "model.pth.tar-1", coop())
    with monkeypatch.context() as patch:
        patch.setattr(CLIPPromptConfig, "save_pretrained", fail)  # which comes after the tensors
        with pytest.raises(OSError, match="No space"):
            adapter_from_checkpoint(file, tmp_path / "adapter", base)
    assert [each.name for each in tmp_path.iterdir()] == ["model.pth.tar-1"]
    adapter_from_checkpoint(file, tmp_path / "adapter", base)
    monkeypatch.setattr(torch, "save", lambda content, path: Path(path).write_bytes(b"half") and fail())
    with pytest.raises(OSError, match="No space"):
        checkpoint_from_adapter(tmp_path / "adapter", tmp_path / "back")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["adapter", "model.pth.tar-1"]


# ---------------------------------------------------------------------------------------------------------------------
# The command line


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")  # as this file imports it, too
def test_the_module_runs_as_a_program(
    base: str, clip: CLIPModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `python -m hf_sharp_prompt.convert` does."""
    learned = maple()
    file = save(tmp_path / "model.pth.tar-5", with_what_stands_still("maple", learned, clip))
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n")
    words = [file, tmp_path / "maple", "--base", base, "--class_names", tmp_path / "names.txt"]
    monkeypatch.setattr(sys, "argv", ["convert", *map(str, words)])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("hf_sharp_prompt.convert", run_name="__main__")
    model = PeftModel.from_pretrained(clip, tmp_path / "maple")
    config = model.active_peft_config
    assert (config.class_names, config.class_template) == (["blue heart", "red star", "cat"], "of a {}.")
    assert config.coupled
    assert config.text_depth == 3


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["convert", *map(str, arguments)])
    command_line.main()


def test_command_line_goes_both_ways_and_says_what_is_wrong(
    base: str,
    clip: CLIPModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    learned = coop()
    file = save(tmp_path / "model.pth.tar-50", with_what_stands_still("coop", learned, clip))
    run(monkeypatch, file, tmp_path / "adapter", "--base", base)
    assert "set_classes(names, tokenizer, template='{}.')" in capsys.readouterr().out
    run(monkeypatch, tmp_path / "adapter", tmp_path / "back" / "model.pth.tar-50")
    back = torch.load(tmp_path / "back" / "model.pth.tar-50", weights_only=True)
    assert torch.equal(back["state_dict"]["ctx"], learned["ctx"])
    for target, options, message in (
        ("adapter", ["--base", base], "adapter exists already"),
        ("other", ["--base", tmp_path / "nowhere"], "nowhere"),
        ("other", [], "--base is needed"),
    ):
        with pytest.raises(SystemExit, match="2"):
            run(monkeypatch, file, tmp_path / target, *options)
        assert message in capsys.readouterr().err
    names = ["--class_names", *NAMES, "--class_template", "one {}", "--class_token_position", "front"]
    run(monkeypatch, file, tmp_path / "front", "--base", base, *names)
    config = PeftModel.from_pretrained(clip, tmp_path / "front").active_peft_config
    assert (config.class_template, config.class_token_position) == ("one {}", "front")
