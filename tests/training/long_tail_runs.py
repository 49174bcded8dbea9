"""Runs of SharpPromptTrainer on a long tail: a cosine classifier whose every parameter trains."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from hf_sharp_prompt import SharpPromptTrainer, SharpPromptTrainingArguments
from hf_sharp_prompt.data import ImageFeatures


COUNTS = [23, 9, 3, 1]
WIDTH = 6


class Cosine(nn.Module):
    """A classifier whose every parameter trains: logits of scale 25."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(len(COUNTS), WIDTH, generator=generator, dtype=torch.float64))

    def forward(self, image_features, labels=None, num_items_in_batch=None, **kwargs) -> dict[str, torch.Tensor]:
        logits = 25 * normalize(image_features, dim=-1) @ normalize(self.weight, dim=-1).T
        if labels is None:
            return {"logits": logits}
        return {"loss": cross_entropy(logits, labels, reduction="sum") / (num_items_in_batch or 1), "logits": logits}


def make_data(counts: list[int] = COUNTS) -> ImageFeatures:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    features = torch.randn(len(labels), 1, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return ImageFeatures(features, labels, list("abcd"[: len(counts)]))


def make_trainer(output_dir, data=None, model=None, **arguments) -> SharpPromptTrainer:
    defaults = {
        "sharpness": "none",
        "per_device_train_batch_size": sum(COUNTS),
        "num_train_epochs": 3,
        "learning_rate": 0.5,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0,
        "optim": "sgd",
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "seed": 3,
    }
    arguments = SharpPromptTrainingArguments(str(output_dir), **(defaults | arguments))
    model = Cosine() if model is None else model
    return SharpPromptTrainer(model, arguments, train_dataset=make_data() if data is None else data)


def train(output_dir, **arguments) -> torch.Tensor:
    trainer = make_trainer(output_dir, **arguments)
    trainer.train()
    return trainer.model.weight.detach().clone()
