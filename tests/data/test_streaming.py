"""Streamed data are evaluated on by the Trainer; what needs a length says so."""

from pathlib import Path

import pytest
from datasets import IterableDataset
from peft import get_peft_model
from PIL import Image

from hf_sharp_prompt import CLIPPromptConfig, SharpPromptTrainer, SharpPromptTrainingArguments
from hf_sharp_prompt.data import load_image_dataset


@pytest.fixture
def table(tmp_path: Path) -> str:
    """Seven images of two classes, and one without a label."""
    lines = ["image,label"]
    for number, name in enumerate(["cat", "dog", "dog", "cat", "", "dog", "cat", "cat"]):
        Image.new("RGB", (48, 48), (30 * number, 0, 0)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{name}")
    (tmp_path / "pets.csv").write_text("\n".join(lines), encoding="utf-8")
    return str(tmp_path / "pets.csv")


def test_the_trainer_measures_the_same_on_a_stream(table, clip, tokenizer, image_processor, tmp_path):
    """Otherwise data larger than the disk cannot be evaluated on."""
    streamed = load_image_dataset(table, class_names=["cat", "dog"], streaming=True)["train"]
    assert isinstance(streamed, IterableDataset)
    loaded = load_image_dataset(table)
    whole = sorted((row for split in loaded.values() for row in split), key=lambda row: row["image"]["path"])
    assert [row["label"] for row in streamed] == [row["label"] for row in whole] == [0, 1, 1, 0, 1, 0, 0]
    model = get_peft_model(clip, CLIPPromptConfig(num_text_tokens=2))
    model.set_classes(["cat", "dog"], tokenizer)
    arguments = SharpPromptTrainingArguments(
        str(tmp_path), use_cpu=True, report_to="none", per_device_eval_batch_size=3, disable_tqdm=True
    )
    trainer = SharpPromptTrainer(
        model,
        arguments,
        eval_dataset=streamed,
        processing_class=image_processor,
        compute_metrics=lambda output: {"count": len(output.label_ids)},
    )
    measured = trainer.evaluate()
    assert measured["eval_count"] == 7
    assert measured["eval_loss"] == pytest.approx(trainer.evaluate(whole)["eval_loss"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "labels of .* are string values, and the names of all classes are not known .*; pass class_names"),
        ({"class_names": ["cat"]}, r"at least two classes, but .* has 1: \['cat'\]"),
        ({"class_names": ["cat", "dog"], "on_bad_image": "skip"}, "reads all images first; load .* without streaming"),
        ({"class_names": ["cat", "dog"], "label_column": "kind"}, "no column 'kind'; its columns are: image"),
    ],
)
def test_what_a_stream_cannot_do_is_refused(table, options, message):
    with pytest.raises(ValueError, match=message):
        load_image_dataset(table, streaming=True, **options)


def test_a_label_of_no_class_is_refused_where_it_comes(table):
    splits = load_image_dataset(table, class_names=["cat", "bird"], streaming=True)
    with pytest.raises(ValueError, match="has a label 'dog', which is none of its classes"):
        list(splits["train"])
