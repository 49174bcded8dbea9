"""SAM in a loop of your own: a small ResNet on few images of the demo, with Accelerate, without prompts or Trainer.

Run it with `python`, `accelerate launch` or `torchrun --nproc_per_node 2`; an argument is the number of epochs."""

import sys

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from hf_sharp_prompt.demo import DEFAULT_TASK, TASKS
from hf_sharp_prompt.sharpness import SharpnessAware, SharpnessRule, create


class Block(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(width, out, 1, 2)
        self.residual = nn.Sequential(nn.Conv2d(width, out, 3, 2, 1), nn.BatchNorm2d(out), nn.ReLU())
        self.residual.extend([nn.Conv2d(out, out, 3, 1, 1), nn.BatchNorm2d(out)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.shortcut(x) + self.residual(x))


def load(split: str) -> TensorDataset:
    images, labels = map(torch.tensor, TASKS[DEFAULT_TASK].images(split, per_class=8))
    return TensorDataset(images.permute(0, 3, 1, 2) / 128 - 1, labels % 6)  # six shapes, whatever their colour


def train(rule: SharpnessRule, epochs: int, accelerator: Accelerator) -> float:
    set_seed(0)
    stages = nn.Conv2d(3, 16, 4, 2, 1), Block(16, 32), Block(32, 64), nn.AdaptiveMaxPool2d(1), nn.Flatten()
    model = nn.Sequential(*stages, nn.Linear(64, 6))
    training, test = DataLoader(load("train"), 64 // accelerator.num_processes, True), DataLoader(load("test"), 256)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, epochs * len(training))
    model, optimizer, schedule, training, test = accelerator.prepare(model, optimizer, schedule, training, test)
    sharp = SharpnessAware(rule, model, accelerator, optimizer=optimizer)
    for images, labels in (batch for _ in range(epochs) for batch in training):
        sharp.backward(lambda: nn.functional.cross_entropy(model(images), labels))  # noqa: B023 (called at once)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        hits = [accelerator.gather_for_metrics(model(images).argmax(1) == labels) for images, labels in test]
    return float(torch.cat(hits).double().mean())


if __name__ == "__main__":
    words = sys.argv[1:] or ["16"]
    if len(words) > 1 or not words[0].isdecimal() or int(words[0]) == 0:
        print(f"Give the number of epochs as one whole number above 0, got {' '.join(words)}.", file=sys.stderr)
        sys.exit(2)
    accelerator = Accelerator(cpu=not torch.accelerator.is_available())  # else torchrun's processes would not meet
    for rule in create("none"), create("sam", rho=0.05):
        reached = train(rule, int(words[0]), accelerator)
        accelerator.print(f"{rule.name}: accuracy {reached:.1%} ({accelerator.num_processes} processes)")
    accelerator.end_training()
