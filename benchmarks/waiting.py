"""What a user waits for: `python benchmarks/waiting.py` prints the table of benchmarks/README.md.

- What `import hf_sharp_prompt` adds to the import of transformers, peft and datasets.
- The time to the first line of the main job, and to its end: as users start it, and one run after the other.
- The time from the imports to the first step when a command is run again on many images, whose features are in the
  cache: a folder of JPEG files, and Parquet files that hold them. The first time, the images are made and encoded.

Each row has seconds of wall-clock time, which other work on the machine makes longer, and of CPU time, that of all
processes together, which it hardly changes.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

import datasets
import numpy as np
from PIL import Image


MAIN_JOB = Path(__file__).parent.parent / "examples" / "run_base2novel.py"
LIBRARIES = "import transformers, peft, datasets"
STAGE = '"stage": "training"'
CLASSES = 100


class Cost(NamedTuple):
    """Seconds of wall-clock and of CPU time."""

    wall: float
    cpu: float

    def minus(self, other: Cost) -> Cost:
        return Cost(self.wall - other.wall, self.cpu - other.cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60_000, help="images of the command that is run again")
    parser.add_argument("--repeats", type=int, default=5, help="of the imports; the median counts")
    parser.add_argument("--parts", nargs="+", default=["imports", "main_job", "rerun"], help="what is measured")
    args = parser.parse_args()
    print("| what | wall, s | CPU, s |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        if "imports" in args.parts:
            measure_imports(args.repeats)
        if "main_job" in args.parts:
            measure_main_job(Path(directory))
        if "rerun" in args.parts:
            measure_rerun(Path(directory), args.images)


def measure_imports(repeats: int) -> None:
    alone, with_package = (
        [run([sys.executable, "-c", code]) for _ in range(repeats)]
        for code in (LIBRARIES, f"{LIBRARIES}; import hf_sharp_prompt")
    )
    show(LIBRARIES, middle(alone))
    show("`import hf_sharp_prompt` adds", middle(with_package).minus(middle(alone)))


def measure_main_job(directory: Path) -> None:
    command = [sys.executable, str(MAIN_JOB), "--output_dir"]
    show("main job: first line", run([*command, str(directory / "first")], until="stage"))
    show("main job: first line after the imports", run([*command, str(directory / "second")], until='"reading"'))
    show("main job", run([*command, str(directory / "side_by_side")]))
    show("main job, one run after the other", run([*command, str(directory / "alone"), "--runs_at_once", "1"]))


def measure_rerun(directory: Path, images: int) -> None:
    folder, tables = directory / "folder", directory / "parquet"
    make_folder(folder, images)
    make_tables(folder, tables)
    caches = {name: str(directory / name) for name in ("HF_ASSETS_CACHE", "HF_DATASETS_CACHE")}
    for kind, data in (("a folder of files", folder), ("Parquet files", tables)):
        words = ["base2novel", "--dataset", str(data), "--shots", "all", "--seeds", "1", "--recipes", "coop"]
        words += ["--cache_features", "disk", "--augmented_views", "0", "--max_steps", "1"]
        command = [sys.executable, "-m", "hf_sharp_prompt", *words, "--output_dir"]
        run([*command, str(directory / f"{kind}, first")], **caches)
        imports = run([*command, str(directory / f"{kind}, imports")], until='"reading"', **caches)
        training = run([*command, str(directory / f"{kind}, again")], until=STAGE, **caches)
        show(f"{images} images in {kind}, again: from the imports to the first step", training.minus(imports))


def make_folder(root: Path, images: int) -> None:
    """Make small JPEG files, five sixths of them to train on."""
    random = np.random.default_rng(0)
    for number in range(images):
        file = root / ("test" if number % 6 == 5 else "train") / f"class {number // 6 % CLASSES:03d}" / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((64, 64)).save(file)


def make_tables(folder: Path, tables: Path) -> None:
    """Write the images of a folder into one Parquet file for each split."""
    names = sorted(path.name for path in (folder / "train").iterdir())
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=names))
    for split in ("train", "test"):
        files = sorted((folder / split).glob("*/*.jpg"))
        rows = {
            "image": [{"bytes": file.read_bytes(), "path": None} for file in files],
            "label": [file.parent.name for file in files],
        }
        tables.mkdir(exist_ok=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tables / f"{split}.parquet"))


def run(command: Sequence[str], until: str | None = None, **environment: str) -> Cost:
    """Measure a command: to its end, or to the first line with these words, and then end it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
    )
    assert process.stderr is not None
    wall, lines = 0.0, []
    for line in process.stderr:
        lines.append(line)
        if until is not None and until in line:
            wall = perf_counter() - started
            process.terminate()
            break
    process.stderr.read()
    code = process.wait()
    if (until is None and code) or (until is not None and not wall):
        raise SystemExit(f"{' '.join(command)} ended with {code}:\n{''.join(lines[-20:])}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall or perf_counter() - started, cpu)


def middle(costs: Sequence[Cost]) -> Cost:
    return Cost(median(cost.wall for cost in costs), median(cost.cpu for cost in costs))


def show(what: str, cost: Cost) -> None:
    print(f"| {what} | {cost.wall:.2f} | {cost.cpu:.2f} |", flush=True)


if __name__ == "__main__":
    main()
