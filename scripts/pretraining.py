"""The optimisation and the saving that the pre-training of the demo's models share."""

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset
from transformers import PreTrainedModel, ProcessorMixin, get_cosine_schedule_with_warmup
from transformers.image_processing_utils import BaseImageProcessor


@dataclass
class OptimizationArguments:
    """How long to train, and how fast."""

    steps: int = field(default=3000, metadata={"help": "updates"})
    batch_size: int = field(default=128, metadata={"help": "images per update"})
    learning_rate: float = field(default=1e-3, metadata={"help": "AdamW's peak, after a warm-up of 5 %% of the steps"})
    muon_learning_rate: float = field(default=4e-3, metadata={"help": "Muon's, which trains the layers' matrices"})
    weight_decay: float = field(default=0.02, metadata={"help": "weight decay of both optimizers"})
    bf16: bool = field(default=True, metadata={"help": "multiply in bfloat16: twice as fast where the CPU can"})
    log_steps: int = field(default=50, metadata={"help": "updates between two lines of the log"})
    seed: int = field(default=0, metadata={"help": "seed of images, labels and initial weights"})


def waves(side: int, width: int) -> torch.Tensor:
    """Make position embeddings of sines and cosines of row and column, which differ from the first step on.

    Args:
        side: side of the square grid of patches.
        width: width of an embedding, a multiple of 4.

    Returns:
        One embedding per patch, (side * side, width).
    """
    frequencies = 20 ** -torch.linspace(0, 1, width // 4)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [place.reshape(-1, 1) * frequencies for place in (rows, columns)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)


def train(
    args: OptimizationArguments,
    model: PreTrainedModel,
    batches: IterableDataset,
    loss_of: Callable[[Any], torch.Tensor],
) -> None:
    """Train in place what of `model` takes gradients.

    Args:
        args: how long to train, and how fast.
        model: the model.
        batches: one batch per step, as `loss_of` takes it.
        loss_of: batch → its loss, a scalar.
    """
    # A plain vision transformer learns shapes and textures slowly; Muon took fewer images than AdamW.
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    matrices = [p for name, p in trained.items() if ".layers." in name and p.ndim == 2]
    others = [p for name, p in trained.items() if ".layers." not in name or p.ndim != 2]
    muon = torch.optim.Muon(
        matrices, lr=args.muon_learning_rate, weight_decay=args.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(others, lr=args.learning_rate, betas=(0.9, 0.98), weight_decay=args.weight_decay)
    optimizers = (muon, adamw)
    schedules = [get_cosine_schedule_with_warmup(each, args.steps // 20, args.steps) for each in optimizers]
    model.train()
    began = time.perf_counter()
    # One worker renders the next batches on cores that the matrix products leave idle.
    for step, batch in enumerate(DataLoader(batches, batch_size=None, num_workers=1), start=1):
        loss = loss_of(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        if step % args.log_steps == 0 or step == args.steps:
            seconds = time.perf_counter() - began
            print(f"step {step}/{args.steps}  loss {loss.item():.3f}  {seconds:.0f} s", flush=True)


def save(model: PreTrainedModel, processor: ProcessorMixin | BaseImageProcessor, output: Path) -> None:
    """Write the checkpoint next to `output`, then replace `output` by it.

    The weights are stored in fp16, but the configuration asks for float32, which is what `from_pretrained` follows.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as temporary:
        fresh = Path(temporary, output.name)
        model.half().save_pretrained(fresh)
        model.float()
        parts = [getattr(model.config, name) for name in model.config.sub_configs]
        for config in (model.config, *parts):
            config.dtype = torch.float32
        model.config.save_pretrained(fresh)
        processor.save_pretrained(fresh)
        if output.exists():
            shutil.rmtree(output)
        fresh.rename(output)
