"""Cards of adapters that find objects or segment: how they are found and loaded, and what they reach."""

import io
import re

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from inference.dense_adapters import NAMES, save_adapter
from peft import PeftModel
from PIL import Image
from training.small_runs import make_trainer
from tuners.clip_models import make_model

from hf_sharp_prompt.cards import PICTURE_NAME
from hf_sharp_prompt.experiments.publishing import copy_published


TASKS = {
    "OwlViTForObjectDetection": ("object-detection", "zero-shot-object-detection"),
    "Owlv2ForObjectDetection": ("object-detection", "zero-shot-object-detection"),
    "CLIPSegForImageSegmentation": ("image-segmentation", "image-segmentation"),
    "CLIPModel": ("image-segmentation", "image-segmentation"),
}
MEASURED = {"object-detection": ("map", "mAP"), "image-segmentation": ("mean_iou", "mIoU")}


@pytest.fixture
def trainer(request, tmp_path):
    """A Trainer of a saved adapter of the model that is named, as if it had measured base and novel classes."""
    name = request.param
    saved = save_adapter(name, tmp_path)
    model = PeftModel.from_pretrained(make_model(name), saved.adapter, is_trainable=True)
    examples = [{"pixel_values": torch.zeros(3, 48, 48), "labels": torch.tensor([0])}]
    trainer = make_trainer(tmp_path / "out", model, examples, dataset_name="me/street")
    metric, _ = MEASURED[TASKS[name][0]]
    measured = {f"eval_base_{metric}": 0.5, f"eval_novel_{metric}": 0.25, f"eval_all_{metric}": float("nan")}
    trainer.state.log_history = [{**measured, "eval_base_runtime": 1.0, "step": 1}]
    return trainer


@pytest.mark.parametrize("trainer", TASKS, indirect=True)
def test_the_hub_finds_it_by_its_task_and_reads_its_results(trainer):
    task, pipeline_tag = TASKS[type(trainer.model.get_base_model()).__name__]
    card = trainer.make_card()
    read = ModelCard(str(card)).data
    assert read.pipeline_tag == pipeline_tag
    results = {(each.dataset_split, each.metric_type): each for each in read.eval_results}
    metric, name = MEASURED[task]
    assert results.keys() == {("base", metric), ("novel", metric)}, "what is not defined is no result"
    found = results["novel", metric]
    assert (found.metric_value, found.metric_name, found.dataset_name) == (0.25, name, "me/street")
    assert found.task_type == task
    metadata = yaml.safe_load(str(card).split("---")[1])
    assert [each["name"] for each in metadata["model-index"]] == [read.model_name]


@pytest.mark.parametrize("trainer", TASKS, indirect=True)
def test_the_code_of_the_card_runs_as_it_stands(trainer, tmp_path, monkeypatch, capsys):
    """The base model and the adapter are directories here; on the Hub they are ids."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir(exist_ok=True)
    Image.new("RGB", (60, 40), "red").save("photo.jpg")
    base = trainer.model.peft_config["default"].base_model_name_or_path
    assert base == str(tmp_path / "base")
    card = str(trainer.make_card(model_id="adapter"))
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    namespace = {}
    exec(code, namespace)
    if "labels" in namespace:
        assert namespace["labels"].shape == (40, 60)
    else:
        assert all(label in NAMES for label in namespace["found"]["text_labels"])


@pytest.mark.parametrize("trainer", ["OwlViTForObjectDetection"], indirect=True)
def test_the_picture_is_beside_the_card_and_pushed_with_it(trainer, tmp_path):
    trainer.save_model()
    out = tmp_path / "out"
    assert not (out / PICTURE_NAME).exists()
    assert PICTURE_NAME not in (out / "README.md").read_text()
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, format="PNG")
    trainer.picture = file.getvalue()
    trainer.save_model()
    assert f"]({PICTURE_NAME})" in (out / "README.md").read_text()
    (tmp_path / "published").mkdir()
    copy_published(out, tmp_path / "published")
    assert {path.name for path in (tmp_path / "published").iterdir()} == {
        *("README.md", PICTURE_NAME, "adapter_config.json", "adapter_model.safetensors")
    }


@pytest.mark.parametrize("trainer", ["OwlViTForObjectDetection"], indirect=True)
def test_base_and_novel_classes_are_told_once(trainer):
    class Rows(list):
        class_names: list[str]

    sets = {"base": NAMES, "novel": ["a <b>", "c"], "all": [*NAMES, "a <b>", "c"]}
    trainer.eval_dataset = {}
    for name, names in sets.items():
        trainer.eval_dataset[name] = Rows()
        trainer.eval_dataset[name].class_names = names
    classes = str(trainer.make_card()).split("## Classes")[1].split("###")[0]
    assert " ".join(classes.split()) == (
        "The adapter was trained with: red star, blue heart, green moon. novel: a &lt;b&gt;, c."
    )
