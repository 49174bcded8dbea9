"""How cost grows: `python benchmarks/scaling.py` prints the tables of benchmarks/README.md.

*A step.* It takes a CoOp step from image features, with the text tower of a CLIP of ViT-B/16's size and random
weights. One of classes, context tokens, batch and gradient evaluations grows while the others stay; classes in chunks
grow with a tower of 3 layers.

*Data.* It writes a data set of 1,000 classes and images of 4 × 4 pixels, in Parquet or in a folder for each class, and
reads it as a run does: load it and check that its images are there; split it into base and novel classes and draw 16
shots; identify all of it, and all of it again. A tenth as many images are for testing.

Every size has a process of its own, whose seconds (of a step the median; of data, of CPU time) and peak memory (above
what it held before) are measured. The column *k* is the exponent of `cost ∝ size^k` from one row to the next.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import torch
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image
from vit_b16 import held_memory, make_clip, peak_memory, with_prompt

from hf_sharp_prompt import sharpness
from hf_sharp_prompt.data import base_to_novel, few_shot, fingerprint, load_image_dataset


RULES = {1: "none", 2: "sam", 3: "crsam"}
USUAL = {"classes": 100, "context": 16, "batch": 32, "evaluations": 1}
GROWING = {
    "classes": [50, 100, 200, 400],
    "classes in chunks of 500": [500, 2_000, 8_000, 20_000],
    "context": [4, 16, 48],
    "batch": [32, 256, 2048],
    "evaluations": [1, 2, 3],
}
IMAGES = {"parquet": [1_000, 10_000, 100_000, 1_000_000], "folders": [1_000, 10_000, 100_000, 1_000_000]}
NUM_CLASSES = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="Steps of each size.")
    parser.add_argument("--only", nargs="+", choices=[*GROWING, *IMAGES], default=[*GROWING, *IMAGES])
    parser.add_argument("--largest", type=int, default=max(IMAGES["parquet"]), help="Largest number of images.")
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)  # what a fresh process is asked for
    args = parser.parse_args()
    if args.measure:
        measure = measure_data if "folder" in args.measure else measure_step
        print(json.dumps(measure(**args.measure)))
        return
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, float32; otherwise {USUAL}\n")
    for quantity in filter(GROWING.__contains__, args.only):
        print_step_table(quantity, GROWING[quantity], args.repeats)
    for kind in filter(IMAGES.__contains__, args.only):
        print_data_table(kind, [count for count in IMAGES[kind] if count <= args.largest])


def print_step_table(quantity: str, sizes: list[int], repeats: int) -> None:
    print(f"| {quantity} | seconds | peak memory, GiB | k of seconds |")
    print("|---|---|---|---|")
    last = None
    for size in sizes:
        own = {quantity: size} if quantity in USUAL else {"classes": size, "chunk": 500, "layers": 3}
        seconds, gib = in_fresh_process(USUAL | own | {"repeats": repeats})
        print(f"| {size} | {seconds:.2f} | {gib:.2f} | {exponent(last, (size, seconds))} |", flush=True)
        last = size, seconds
    print()


def print_data_table(kind: str, counts: list[int]) -> None:
    print(f"| images in {kind} | load | split and draw | identify | again | peak memory, GiB | k of all seconds |")
    print("|---|---|---|---|---|---|---|")
    last = None
    for count in counts:
        with TemporaryDirectory() as folder:
            WRITERS[kind](Path(folder) / "images", count)
            *seconds, gib = in_fresh_process({"folder": str(Path(folder) / "images")}, HF_HOME=folder)
        cells = " | ".join(f"{each:.2f}" for each in (*seconds, gib))
        print(f"| {count} | {cells} | {exponent(last, (count, sum(seconds)))} |", flush=True)
        last = count, sum(seconds)
    print()


def exponent(last: tuple[int, float] | None, now: tuple[int, float]) -> str:
    return "" if last is None else f"{math.log(now[1] / last[1]) / math.log(now[0] / last[0]):.2f}"


def in_fresh_process(what: dict[str, Any], **environment: str) -> list[float]:
    command = [sys.executable, __file__, "--measure", json.dumps(what)]
    return json.loads(
        subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, **environment}
        ).stdout.splitlines()[-1]
    )


def measure_step(
    classes: int,
    context: int,
    batch: int,
    evaluations: int,
    repeats: int,
    chunk: int | None = None,
    layers: int = 12,
) -> list[float]:
    """Measure the seconds and GiB of a step."""
    model = with_prompt(make_clip(layers), classes, context, class_chunk_size=chunk)
    features, labels = torch.randn(batch, 512), torch.arange(batch) % classes
    sharp = sharpness.SharpnessAware(sharpness.create(RULES[evaluations]), model.parameters())

    def step() -> None:
        sharp.backward(lambda: model(image_features=features, labels=labels).loss)

    before = held_memory()
    step()
    gib = (peak_memory() - before) / 2**30
    return [median(clock(step, perf_counter)[0] for _ in range(repeats)), gib]


def measure_data(folder: str) -> list[float]:
    """Measure the seconds of CPU time of each thing that is done with data, and the GiB of all."""
    before = held_memory()
    load, splits = clock(lambda: load_image_dataset(folder))
    split, _ = clock(lambda: few_shot(base_to_novel(splits)[0], 16, seed=1))
    identify, _ = clock(lambda: fingerprint(splits))
    again, _ = clock(lambda: fingerprint(splits))
    return [load, split, identify, again, (peak_memory() - before) / 2**30]


def clock(call: Callable[[], Any], timer: Callable[[], float] = process_time) -> tuple[float, Any]:
    started = timer()
    result = call()
    return timer() - started, result


def write_parquet(folder: Path, images: int) -> None:
    """Write images that are stored in Parquet files, as on the Hub."""
    features = Features(
        image=ImageFeature(), label=ClassLabel(names=[f"thing {label}" for label in range(NUM_CLASSES)])
    )
    pictures = [{"bytes": encoded_image(label), "path": None} for label in range(NUM_CLASSES)]
    for split, count in splits_of(images).items():
        rows = {"image": pictures * (count // NUM_CLASSES), "label": [*range(NUM_CLASSES)] * (count // NUM_CLASSES)}
        folder.mkdir(exist_ok=True)
        Dataset.from_dict(rows, features).to_parquet(folder / f"{split}.parquet")


def write_folders(folder: Path, images: int) -> None:
    """Write an image file for each class, and link the others to it."""
    for split, count in splits_of(images).items():
        for label in range(NUM_CLASSES):
            own = folder / split / f"thing {label}"
            own.mkdir(parents=True)
            (own / "0.png").write_bytes(encoded_image(label))
            for number in range(1, count // NUM_CLASSES):
                os.link(own / "0.png", own / f"{number}.png")


def splits_of(images: int) -> dict[str, int]:
    return {"train": images, "test": max(NUM_CLASSES, images // 10)}


def encoded_image(label: int) -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (4, 4), (label % 256, label // 256, 0)).save(encoded, "PNG")
    return encoded.getvalue()


WRITERS = {"parquet": write_parquet, "folders": write_folders}


if __name__ == "__main__":
    main()
