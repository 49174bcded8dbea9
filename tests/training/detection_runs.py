"""Runs of SharpPromptTrainer that learn to find objects: a random OWL-ViT in float64, and the heads' outputs."""

import copy
import functools

import torch
from peft import PeftModel, get_peft_model
from training.small_runs import load_processor
from transformers import EvalPrediction, OwlViTConfig, OwlViTForObjectDetection

from hf_sharp_prompt import CLIPPromptConfig, SharpPromptTrainer, SharpPromptTrainingArguments
from hf_sharp_prompt.demo import CLIP_PATH
from hf_sharp_prompt.experiments.detection import best_detections, detections_and_objects
from hf_sharp_prompt.metrics import load


CLASSES = ["red circle", "blue heart", "green star"]
WIDTH, PATCHES, MOST = 24, 9, 3
IGNORED, NO_OBJECT = -100, -1


@functools.cache
def load_detector() -> OwlViTForObjectDetection:
    tokenizer = load_processor().tokenizer
    small = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = OwlViTConfig(
        text_config={**small, **ids, "vocab_size": len(tokenizer)},
        vision_config={**small, "image_size": 48, "patch_size": 16},
        projection_dim=WIDTH,
        attn_implementation="sdpa",  # eager attention sums in float32
    )
    torch.manual_seed(0)
    return OwlViTForObjectDetection(config).double()


def make_detector(**config) -> PeftModel:
    detector = copy.deepcopy(load_detector())
    torch.manual_seed(0)
    prompt = {"num_text_tokens": 2, "tokenizer_name_or_path": str(CLIP_PATH), **config}
    model = get_peft_model(detector, CLIPPromptConfig(**prompt))
    model.set_classes(CLASSES, load_processor(), "{}.")
    return model


def make_scenes(count: int = 22, pixels: bool = False) -> list[dict[str, torch.Tensor]]:
    """Images with 0 to 3 objects of three categories, as what the frozen heads make of each patch, or as pixels."""
    generator = torch.Generator().manual_seed(1)
    scenes = []
    for image in range(count):
        objects = image % (MOST + 1)
        labels = torch.full((MOST,), IGNORED)
        labels[:objects] = (image + torch.arange(objects)) % len(CLASSES)
        labels[0] = NO_OBJECT if not objects else labels[0]
        boxes = torch.zeros(MOST, 4, dtype=torch.float64)
        boxes[:objects] = 0.2 + 0.4 * torch.rand(objects, 4, generator=generator, dtype=torch.float64)
        if pixels:
            seen = {"pixel_values": torch.randn(3, 48, 48, generator=generator, dtype=torch.float64)}
        else:
            embeddings = torch.randn(PATCHES, WIDTH, generator=generator, dtype=torch.float64)
            embeddings = embeddings / embeddings.norm(dim=-1, keepdim=True)
            rest = torch.rand(PATCHES, 6, generator=generator, dtype=torch.float64)
            rest[:, 0] -= 1  # shifts
            rest[:, 1] += 4  # scales
            seen = {"image_features": torch.cat([embeddings, rest[:, :2], 0.2 + 0.4 * rest[:, 2:]], dim=-1)}
        scenes.append({**seen, "labels": labels, "boxes": boxes, "crowds": torch.zeros_like(labels)})
    return scenes


def make_trainer(output_dir, model=None, data=None, **arguments) -> SharpPromptTrainer:
    defaults = {
        "sharpness": "sam",
        "per_device_train_batch_size": 6,
        "num_train_epochs": 2,
        "learning_rate": 0.05,
        "optim": "sgd",
        "label_names": ["labels", "boxes", "crowds"],
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "dataloader_pin_memory": False,
        "seed": 3,
    }
    return SharpPromptTrainer(
        make_detector() if model is None else model,
        SharpPromptTrainingArguments(str(output_dir), **(defaults | arguments)),
        train_dataset=make_scenes() if data is None else data,
        eval_dataset=make_scenes(13),
        compute_metrics=judge,
        preprocess_logits_for_metrics=lambda logits, labels: best_detections(*logits),
    )


def judge(prediction: EvalPrediction) -> dict[str, float]:
    results = load("mean_average_precision")._compute(*detections_and_objects(prediction), len(CLASSES))
    return {name: value for name, value in results.items() if isinstance(value, float)}


def prompt_of(model: PeftModel) -> torch.Tensor:
    return model.get_base_model().owlvit.text_model.embeddings.clip_prompt_context["default"].detach().clone()


def train(output_dir, **arguments) -> tuple[torch.Tensor, torch.Tensor]:
    """What was learned, and what it measures: the mean average precisions and the loss."""
    trainer = make_trainer(output_dir, **arguments)
    trainer.train()
    measured = trainer.evaluate()
    names = ("eval_map", "eval_map50", "eval_map75")
    return prompt_of(trainer.model), torch.tensor([measured[name] for name in names], dtype=torch.float64)
