"""What a whole run costs: `python benchmarks/run.py` prints the tables of benchmarks/README.md.

The first table is a base-to-novel run of CoOp + SAM on the demo as users start it (16 shots, one seed, wall-clock
time): from image features that are computed once (the demo's default), and from pixels at every step.

The second table is a run at ViT-B/16's size. It would take hours here, so it is extrapolated from the measured times
of its parts: in the same two ways, and as in the papers' code, with image tower and padded texts in each of SAM's
gradients.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from step import Steps


EXAMPLE = Path(__file__).parent.parent / "examples" / "run_base2novel.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=100, help="base and novel classes, at ViT-B/16's size")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--test_images", type=int, default=2500, help="test images of both halves")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, float32, {vars(args)}\n")
    cached, from_pixels = run_demo(), run_demo("--cache_features", "no")
    print("| the demo's run | seconds | slower than cached |\n|---|---|---|")
    print(f"| cached | {cached:.0f} | 1.0 |")
    print(f"| pixels at every step | {from_pixels:.0f} | {from_pixels / cached:.1f} |\n")
    print_vit_b16(args)


def run_demo(*arguments: str) -> float:
    """Measure the seconds of a run, from the command to its end."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, str(EXAMPLE), "--recipes", "coop_sam", "--seeds", "1", "--output_dir", directory]
        started = perf_counter()
        subprocess.run([*command, *arguments], check=True, capture_output=True, env=os.environ)
        return perf_counter() - started


def print_vit_b16(args: argparse.Namespace) -> None:
    base = args.classes // 2
    steps = Steps(base, 4, args.batch)
    seconds = {way: measure(getattr(steps, way), args.repeats) for way in ("cached", "sam", "papers")}
    encode = measure(lambda: steps.model.encode_images(pixel_values=steps.pixels), args.repeats) / args.batch
    number = args.epochs * -(-base * args.shots // args.batch)
    test = encode * args.test_images
    totals = {
        "cached": number * seconds["cached"] + encode * base * args.shots + test,
        "pixels at every step": number * seconds["sam"] + test,
        "papers' way": number * seconds["papers"] + test,
    }
    print(f"| at ViT-B/16's size, {number} steps, extrapolated | hours | of cached |\n|---|---|---|")
    for way, total in totals.items():
        print(f"| {way} | {total / 3600:.2f} | {total / totals['cached']:.1f} |")


def measure(function: Callable[[], object], repeats: int) -> float:
    """Return the median of the seconds that a function takes."""
    function()
    times = []
    for _ in range(repeats):
        started = perf_counter()
        function()
        times.append(perf_counter() - started)
    return median(times)


if __name__ == "__main__":
    main()
