"""How a step's cost grows: `python benchmarks/scaling.py` prints the tables of benchmarks/README.md.

It takes a CoOp step from image features, with the text tower of a CLIP of ViT-B/16's size and random weights, and
measures seconds (median) and peak memory (in a fresh process, above what it held before). One of classes, context
tokens, batch and gradient evaluations grows while the others stay. The last column is the exponent k of
`cost ∝ size^k` from one row to the next.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from statistics import median
from time import perf_counter

import torch
from vit_b16 import held_memory, make_clip, peak_memory, with_prompt

from hf_sharp_prompt import sharpness


RULES = {1: "none", 2: "sam", 3: "crsam"}
USUAL = {"classes": 100, "context": 16, "batch": 32, "evaluations": 1}
GROWING = {
    "classes": [50, 100, 200, 400],
    "context": [4, 16, 48],
    "batch": [32, 256, 2048],
    "evaluations": [1, 2, 3],
}


class Step:
    """A training step of one size."""

    def __init__(self, classes: int, context: int, batch: int, evaluations: int) -> None:
        self.model = with_prompt(make_clip(), classes, context)
        self.features, self.labels = torch.randn(batch, 512), torch.arange(batch) % classes
        self.sharp = sharpness.SharpnessAware(sharpness.create(RULES[evaluations]), self.model.parameters())

    def __call__(self) -> None:
        self.sharp.backward(lambda: self.model(image_features=self.features, labels=self.labels).loss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)  # what a fresh process is asked for
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.repeats)))
        return
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, float32; otherwise {USUAL}\n")
    for quantity, sizes in GROWING.items():
        print(f"| {quantity} | seconds | peak memory, GiB | k of seconds |")
        print("|---|---|---|---|")
        last = None
        for size in sizes:
            seconds, gib = measure_in_fresh_process(USUAL | {quantity: size}, args.repeats)
            exponent = "" if last is None else f"{math.log(seconds / last[1]) / math.log(size / last[0]):.2f}"
            print(f"| {size} | {seconds:.2f} | {gib:.2f} | {exponent} |", flush=True)
            last = size, seconds
        print()


def measure(sizes: dict[str, int], repeats: int) -> tuple[float, float]:
    """Measure the seconds and GiB of a step."""
    step = Step(**sizes)
    before = held_memory()
    step()
    gib = (peak_memory() - before) / 2**30
    seconds = []
    for _ in range(repeats):
        started = perf_counter()
        step()
        seconds.append(perf_counter() - started)
    return median(seconds), gib


def measure_in_fresh_process(sizes: dict[str, int], repeats: int) -> tuple[float, float]:
    command = [sys.executable, __file__, "--repeats", str(repeats), "--measure", json.dumps(sizes)]
    return tuple(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


if __name__ == "__main__":
    main()
