"""Detection as a protocol: what is measured, resumed and refused, on a small random OWL-ViT and a few scenes."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from datasets import DatasetDict
from peft import PeftModel
from transformers import (
    AutoProcessor,
    OwlViTConfig,
    OwlViTForObjectDetection,
    OwlViTImageProcessor,
    OwlViTProcessor,
)

from hf_sharp_prompt.data.detection import category_names, load_detection_dataset
from hf_sharp_prompt.demo import CLIP_PATH
from hf_sharp_prompt.experiments import detection


SMALL = ["--use_cpu", "--save_strategy", "no", "--max_steps", "2", "--recipes", "coop", "--seeds", "1"]
TASK = "scenes_colour_shape_tint"


@pytest.fixture(scope="session")
def detector(tmp_path_factory) -> Path:
    """The directory of a random OWL-ViT whose boxes are near the patches, as box biases are."""
    directory, tokenizer = tmp_path_factory.mktemp("owlvit"), AutoProcessor.from_pretrained(CLIP_PATH).tokenizer
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = OwlViTConfig(
        text_config={**small, **ids, "vocab_size": len(tokenizer)},
        vision_config={**small, "image_size": 72, "patch_size": 18},
        projection_dim=32,
    )
    torch.manual_seed(0)
    OwlViTForObjectDetection(config).save_pretrained(directory)
    OwlViTProcessor(OwlViTImageProcessor(size={"height": 72, "width": 72}), tokenizer).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def scenes() -> DatasetDict:
    splits = load_detection_dataset(TASK)
    return DatasetDict({name: split.select(range(24)) for name, split in splits.items()})


@pytest.fixture
def run(monkeypatch, tmp_path, capsys, detector, scenes):
    """Runs the protocol with arguments, and returns its results."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(detection, "load_detection_dataset", lambda *args: scenes)
    verbosity = transformers.utils.logging.get_verbosity()

    def run(*arguments: object) -> dict:
        words = ["--model", str(detector), "--output_dir", str(tmp_path / "out"), *SMALL, *map(str, arguments)]
        assert detection.main(words) == 0
        run.printed = capsys.readouterr().out
        return json.loads((tmp_path / "out" / TASK / "summary.json").read_text())

    yield run
    transformers.utils.logging.set_verbosity(verbosity)


def test_base_novel_and_all_are_measured_and_loaded_back(run, tmp_path, detector, scenes):
    results = run("--shots", 2)
    (zero_shot,), (coop,) = results["zero-shot"], results["coop"]
    assert {f"{name}{suffix}" for name in ("base", "novel", "hm", "all") for suffix in ("", "50", "75")} <= coop.keys()
    assert all(0 <= coop[name] <= 1 for name in ("base", "novel", "all", "base50"))
    assert "failed" not in coop
    assert "only their classification is learned" in run.printed
    names = category_names(scenes["test"])
    assert [*coop["details"]["novel"]["per_class_ap"]] == names[6:]
    assert [*zero_shot["details"]["all"]["per_class_ap"]] == names
    directory = tmp_path / "out" / TASK
    assert (directory / "precision.png").is_file()
    card = (directory / "coop" / "seed1" / "README.md").read_text()
    assert "](predictions.png)" in card
    assert f"novel: {', '.join(names[6:])}." in card
    assert (directory / "coop" / "seed1" / "predictions.png").read_bytes().startswith(b"\x89PNG")
    index = (tmp_path / "out" / "README.md").read_text()
    assert "OwlViTForObjectDetection.from_pretrained" in index
    base = OwlViTForObjectDetection.from_pretrained(detector)
    adapter = directory / "coop" / "seed1"
    model = PeftModel.from_pretrained(base, adapter)
    assert model.active_peft_config.class_names == names[:6]
    assert model.active_peft_config.task == "object-detection"
    written = (adapter / "adapter_model.safetensors").stat().st_mtime_ns
    assert run("--shots", 2)["coop"] == [coop]
    assert (adapter / "adapter_model.safetensors").stat().st_mtime_ns == written, "a finished run is not run again"


def test_pixels_measure_what_cached_features_do_and_train_prompts_in_the_image_tower(run, tmp_path):
    """Otherwise a large data set, whose features do not fit into memory, is another experiment."""
    novel = tmp_path / "novel.txt"
    novel.write_text("blue heart\nred star\n")
    halves = ["--shots", 1, "--novel_classes", novel]
    features, pixels = run(*halves), run(*halves, "--recipes", "vpt_shallow", "--cache_features", "no")
    assert pixels["zero-shot"][0]["details"] == features["zero-shot"][0]["details"]
    assert "failed" not in pixels["vpt_shallow"][0]
    details = features["coop"][0]["details"]
    assert [*details["novel"]["per_class_ap"]] == ["blue heart", "red star"]
    assert len(details["base"]["per_class_ap"]) == 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--shots", "0"], "--shots must be at least 1"),
        (["--box_format", "yx"], "invalid choice"),
        (["--data_root", "x"], "--data_root is for data sets of classification"),
        (["--label_column", "x"], "--label_column is for data sets of classification"),
        (["--model", str(CLIP_PATH)], "is a model of the type 'clip'"),
        (["--recipes", "cocoop"], "conditional shifts the context"),
        (["--eval_split", "val"], "has no val split"),
    ],
)
def test_what_has_no_meaning_is_refused(arguments, words, run, tmp_path, capsys):
    if arguments[0] == "--recipes":  # in the run, so that the others go on
        with pytest.raises(AssertionError):
            run(*arguments)
        assert words in capsys.readouterr().out
        return
    with pytest.raises(ValueError, match=words):
        run(*arguments)


def test_a_smoke_test_takes_seconds_and_is_no_result(run, tmp_path, capsys):
    with pytest.raises(FileNotFoundError):  # its results are beside the output directory
        run("--smoke")
    assert "smoke test" in (tmp_path / "out-smoke" / "README.md").read_text()
