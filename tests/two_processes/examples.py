"""The examples as one of two processes, on data sets of a user's own."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

from support.demo_images import make_folder

from hf_sharp_prompt import demo
from hf_sharp_prompt.experiments import base_to_novel, long_tail


PLAIN_LOOP = Path(__file__).parents[2] / "examples" / "plain_accelerate_loop.py"
BASE_TO_NOVEL = ["--shots", "4", "--seeds", "1", "--num_train_epochs", "3", "--augmented_views", "1", "--use_cpu"]
BASE_TO_NOVEL += ["--recipes", "coop_sam"]
LONG_TAIL = ["--profile", "none", "--recipes", "rsam_pt", "--seeds", "1", "--num_train_epochs", "2", "--use_cpu"]
LONG_TAIL += ["--reweighting_epochs", "1", "--dataloader_num_workers", "1", "--per_device_train_batch_size", "8"]
LONG_TAIL += ["--train_sampling_strategy", "class_balanced"]


def make_data(output_dir: Path) -> None:
    """What both processes read: a folder of images, and a data set with a long tail and its own counts."""
    make_folder(output_dir / "shapes")
    splits = demo.load_long_tail([5, 4, 3, 2] + [1] * 20)
    splits["test"] = splits.pop("validation").shard(10, 0)
    splits.save_to_disk(output_dir / "tail")


def run_base_to_novel(output_dir: Path, name: str, batch_size: int) -> None:
    arguments = ["--dataset", output_dir / "shapes", "--output_dir", output_dir / name, *BASE_TO_NOVEL]
    arguments += ["--per_device_train_batch_size", batch_size]
    assert base_to_novel.main([*map(str, arguments)]) == 0


def run_all(output_dir: Path) -> None:
    run_base_to_novel(output_dir, "two", batch_size=2)
    arguments = ["--dataset", output_dir / "tail", "--output_dir", output_dir / "two long-tailed", *LONG_TAIL]
    assert long_tail.main([*map(str, arguments)]) == 0
    sys.argv = [str(PLAIN_LOOP), "1"]
    runpy.run_path(sys.argv[0], run_name="__main__")  # which ends with its processes' connection


def plain_loops(printed: str, processes: int) -> list[str]:
    """The rules whose accuracy the plain loop has printed, in so many processes."""
    return re.findall(rf"^(\w+): accuracy [\d.]+% \({processes} processes\)$", printed, re.MULTILINE)


def metrics(output_dir: Path) -> dict[str, dict[str, Any]]:
    """Everything measured, by run, but for the time it took."""
    found = {path.parent.parent.name: json.loads(path.read_text()) for path in output_dir.rglob("metrics.json")}
    return {
        name: {key: value for key, value in of.items() if key in ("base", "novel", "hm", "history")}
        for name, of in found.items()
    }
