"""What many runs at once cost: `python benchmarks/together.py` prints the tables of benchmarks/README.md.

Each run is a Trainer with CoOp's context, its own seed and images, and the sharpness rule that is asked for, which
trains on image features. Runs alone are trained one after the other; together they are trained as `train_together`
does. All take the same steps, nothing is evaluated or saved. Of each way the CPU time per run and step is printed, and
the number of operations that torch is asked for: on a GPU each is at least one kernel that Python has to launch.

- demo: the embedded CLIP (width 128, 4 layers), the 36 base classes of `colour_shape_tint`;
- vit_b16: a CLIP whose text tower has ViT-B/16's size (width 512, 12 layers), random weights, as many classes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from time import process_time
from typing import Any

import torch
from peft import get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, PrinterCallback, logging, set_seed

from hf_sharp_prompt import CLIPPromptConfig, SharpPromptTrainer, SharpPromptTrainingArguments
from hf_sharp_prompt.data import ImageFeatures
from hf_sharp_prompt.demo import CLIP_PATH
from hf_sharp_prompt.together.session import Session
from hf_sharp_prompt.together.weights import copy_with_same_weights


CLASSES = 36
COLOURS = ("black", "blue", "brown", "cyan", "green", "grey", "pink", "red")
SHAPES = ("circle", "cross", "heart", "moon", "star", "triangle", "square")


ON_HOST = ("aten.randint.default", "aten._local_scalar_dense.default", "aten.promote_types.default")
"""What data loading asks for, which is on the CPU wherever the model is."""


class Operations(TorchDispatchMode):
    """Counts the operations that are dispatched within the block, but for views, which take no kernel.

    Args:
        counts: Where they are counted, by name.
    """

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not (function.is_view or str(function) in ON_HOST):
            self.counts[str(function)] += 1
        return function(*args, **(kwargs or {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["demo", "vit_b16"], default="demo")
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 2, 4, 8, 30, 90])
    parser.add_argument("--alone", type=int, default=4, help="how many runs are trained alone")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rule", default="sam")
    parser.add_argument("--operations", action="store_true", help="count operations instead of measuring time")
    args = parser.parse_args()
    logging.set_verbosity_error()
    make = partial(make_run, load(args.size), args.steps, args.rule)
    measure = count_operations if args.operations else measure_seconds
    what = "operations" if args.operations else "ms of CPU time"
    print(f"{args.size}, {args.rule}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print(f"| runs | {what} per run and step | of alone |\n|---|---|---|")
    train([make(0)], together=False)  # warms up
    alone = measure([make(seed) for seed in range(args.alone)], False) / args.alone / args.steps
    print(f"| alone | {alone:.1f} | 1.00 |", flush=True)
    for count in args.runs:
        runs = [make(seed) for seed in range(count)]
        each = measure(runs, True) / count / args.steps
        print(f"| {count} together | {each:.1f} | {each / alone:.2f} |", flush=True)


def load(size: str) -> CLIPModel:
    """Load a frozen CLIP."""
    if size == "demo":
        return CLIPModel.from_pretrained(CLIP_PATH).eval()
    tokenizer = AutoTokenizer.from_pretrained(CLIP_PATH)
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = {"hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8, "vocab_size": len(tokenizer), **ids}
    torch.manual_seed(0)
    return CLIPModel(CLIPConfig(text_config=text, vision_config={"num_hidden_layers": 1})).eval()


def make_run(clip: CLIPModel, steps: int, rule: str, seed: int) -> SharpPromptTrainer:
    """Make the Trainer of a run."""
    names = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES][:CLASSES]
    set_seed(seed)
    model = get_peft_model(copy_with_same_weights(clip), CLIPPromptConfig(num_text_tokens=4))
    model.set_classes(names, AutoTokenizer.from_pretrained(CLIP_PATH), "{}.")
    labels = torch.arange(32 * steps) % len(names)
    images = ImageFeatures(torch.randn(len(labels), 1, clip.config.projection_dim), labels, names)
    training = SharpPromptTrainingArguments(
        tempfile.mkdtemp(dir=directory()),
        sharpness=rule,
        seed=seed,
        per_device_train_batch_size=32,
        max_steps=steps,
        learning_rate=0.002,
        optim="sgd",
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = SharpPromptTrainer(model, training, train_dataset=images)
    trainer.remove_callback(PrinterCallback)
    return trainer


def directory() -> str:
    """Return where Trainers may write, of which nothing is kept."""
    path = os.path.join(tempfile.gettempdir(), "benchmarks_together")
    os.makedirs(path, exist_ok=True)
    return path


def train(runs: Sequence[SharpPromptTrainer], together: bool) -> None:
    """Train runs, at once or one after the other."""
    if not together:
        for run in runs:
            run.train()
        return
    for _, outcome in Session({str(number): run.train for number, run in enumerate(runs)}).run():
        if isinstance(outcome, Exception):
            raise outcome


def measure_seconds(runs: Sequence[SharpPromptTrainer], together: bool) -> float:
    """Return the milliseconds of CPU time that training takes."""
    started = process_time()
    train(runs, together)
    return (process_time() - started) * 1000


def count_operations(runs: Sequence[SharpPromptTrainer], together: bool) -> float:
    """Return the number of operations that training dispatches, in this thread and in those of the runs."""
    counts: Counter[str] = Counter()

    def counted(function: Callable[[], Any]) -> Any:
        with Operations(counts):
            return function()

    for run in runs if together else ():
        run.train = partial(counted, run.train)  # type: ignore[method-assign]
    counted(partial(train, runs, together))
    return counts.total()


if __name__ == "__main__":
    main()
