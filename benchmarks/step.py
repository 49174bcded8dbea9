"""What a training step costs: `python benchmarks/step.py` prints the table of benchmarks/README.md.

CoOp on a CLIP of ViT-B/16's size with random weights, 32 images a step, pixels in (224 × 224, float32). The ways take
turns in one process:

- plain: one gradient, with the frozen image tower run once and the classes encoded behind their shared prefix;
- SAM: two gradients of the same;
- SAM, cached: the same from image features that are there already;
- papers' way: SAM as their code runs it, with the image tower and texts padded to 77 tokens in both gradients.

Medians are compared; memory is the peak of a fresh process per way, above what it held before. Beside it, the
Trainer's step with image features, against a loop that does the same arithmetic, a step of each in turn.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from functools import cached_property
from statistics import median
from time import perf_counter

import torch
from torch.nn.functional import cross_entropy, normalize
from transformers import PrinterCallback, TrainerCallback
from vit_b16 import EOS, held_memory, make_clip, make_images, make_texts, peak_memory, with_prompt

from hf_sharp_prompt import SharpPromptTrainer, SharpPromptTrainingArguments, sharpness
from hf_sharp_prompt.data import ImageFeatures


POSITIONS = 77


class Steps:
    """A model, a batch, and the ways to take a step; each leaves the direction in the prompt's gradient."""

    def __init__(self, classes: int, context: int, batch: int) -> None:
        self.model = with_prompt(make_clip(), classes, context)
        self.prompt = next(parameter for parameter in self.model.parameters() if parameter.requires_grad)
        self.pixels, self.labels = make_images(batch, classes)
        rows = [ids + [EOS] * (POSITIONS - context - len(ids)) for ids in make_texts(classes)]
        self.padded = torch.tensor(rows)

    @cached_property
    def features(self) -> torch.Tensor:
        return self.model.encode_images(pixel_values=self.pixels)

    def follow(self, rule: str, closure: Callable[[], torch.Tensor]) -> torch.Tensor:
        self.prompt.grad = None
        sharpness.SharpnessAware(sharpness.create(rule), [self.prompt]).backward(closure)
        assert self.prompt.grad is not None
        return self.prompt.grad.clone()

    def plain(self) -> torch.Tensor:
        features = self.model.encode_images(pixel_values=self.pixels)
        return self.follow("none", lambda: self.model(image_features=features, labels=self.labels).loss)

    def sam(self) -> torch.Tensor:
        features = self.model.encode_images(pixel_values=self.pixels)
        return self.follow("sam", lambda: self.model(image_features=features, labels=self.labels).loss)

    def cached(self) -> torch.Tensor:
        return self.follow("sam", lambda: self.model(image_features=self.features, labels=self.labels).loss)

    def papers(self) -> torch.Tensor:
        def loss() -> torch.Tensor:
            images = normalize(self.model.encode_images(pixel_values=self.pixels), dim=-1)
            texts = normalize(self.model.get_text_features(input_ids=self.padded).pooler_output, dim=-1)
            return cross_entropy(self.model.logit_scale.exp() * images @ texts.T, self.labels)

        return self.follow("sam", loss)


WAYS = {"plain": "plain", "sam": "SAM", "cached": "SAM, cached", "papers": "papers' way"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--context", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory_of", choices=WAYS, help=argparse.SUPPRESS)  # what a fresh process is asked for
    args = parser.parse_args()
    steps = Steps(args.classes, args.context, args.batch)
    if args.memory_of:
        if args.memory_of == "cached":
            steps.features = torch.randn(args.batch, 512)
        before = held_memory()
        getattr(steps, args.memory_of)()
        print(json.dumps(peak_memory() - before))
        return
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {vars(args)}\n")
    directions = {way: getattr(steps, way)() for way in WAYS}  # which also warms up
    seconds = defaultdict(list)
    for _ in range(args.repeats):
        for way in WAYS:
            started = perf_counter()
            getattr(steps, way)()
            seconds[way].append(perf_counter() - started)
    times = {way: median(of_way) for way, of_way in seconds.items()}
    print("| way | seconds | of a plain step | faster than the papers' | peak memory, GiB | direction differs by |")
    print("|---|---|---|---|---|---|")
    for way, name in WAYS.items():
        difference = (directions[way] - directions["papers"]).norm() / directions["papers"].norm()
        gib = memory_in_fresh_process(way) / 2**30
        print(
            f"| {name} | {times[way]:.2f} | {times[way] / times['plain']:.2f} | {times['papers'] / times[way]:.1f} "
            f"| {gib:.2f} | {'' if way == 'plain' else f'{difference:.0e}'} |"
        )
    overhead = measure_trainer(steps, 3 * args.repeats)
    print(f"\nThe Trainer's SAM step from image features takes {overhead:.1%} more than a bare loop's.")


def memory_in_fresh_process(way: str) -> int:
    command = [sys.executable, __file__, *sys.argv[1:], "--memory_of", way]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_trainer(steps: Steps, count: int) -> float:
    """How much longer the Trainer's step takes, from one step's end to the next, than a step of a bare loop."""
    timed = BareSteps(steps)
    data = ImageFeatures(steps.features.unsqueeze(1), steps.labels, steps.model.active_config.class_names)
    with tempfile.TemporaryDirectory() as directory:
        arguments = SharpPromptTrainingArguments(
            directory,
            sharpness="sam",
            per_device_train_batch_size=len(data),
            max_steps=count + 1,
            learning_rate=0.0,
            optim="sgd",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = SharpPromptTrainer(steps.model, arguments, train_dataset=data, callbacks=[timed])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return median(timed.trainer[1:]) / median(timed.bare[1:]) - 1


class BareSteps(TrainerCallback):
    """Takes a step of a bare loop after each of the Trainer's, and times both."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.optimizer = torch.optim.SGD([steps.prompt], lr=0.0)
        self.trainer: list[float] = []
        self.bare: list[float] = []

    def on_train_begin(self, *args: object, **kwargs: object) -> None:
        self.last = perf_counter()

    def on_step_end(self, *args: object, **kwargs: object) -> None:
        reached = perf_counter()
        self.steps.cached()
        self.optimizer.step()
        self.optimizer.zero_grad()
        done = perf_counter()
        self.trainer.append(reached - self.last)
        self.bare.append(done - reached)
        self.last = perf_counter()


if __name__ == "__main__":
    main()
