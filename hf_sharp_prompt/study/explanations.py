"""What may explain a prompt's accuracy: the loss, its sharpness, and the distance of its texts from zero-shot CLIP's.

It is a command of its own, so that tasks are measured side by side. It takes the arguments of the base-to-novel
protocol, finds the adapters that these have trained, and writes a JSON file beside each.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.utils.data import DataLoader

from .. import progress, sharpness
from ..data import ImageFeatures
from ..experiments.arguments import CLIPPromptArguments
from ..experiments.base_to_novel import BaseToNovel, argument_groups
from ..experiments.failures import run_script
from ..experiments.methods import Method
from ..experiments.protocol import start
from ..experiments.results import find_result, read_json, write_json
from .results import EXPLANATION_NAME, RADII


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    args, methods, _ = start(argument_groups(), __doc__, argv)
    experiment = BaseToNovel(args.datasets[0], args, methods[0].training)
    runs = [(method, seed) for method in methods for seed in args.seeds]
    for done, (method, seed) in enumerate(runs):
        progress.report("measuring", done, len(runs))
        directory = experiment.directory_of(method, seed)
        result = find_result(directory)
        if result is None:
            raise ValueError(f"{directory} has no finished run; do the runs first.")
        path = directory / EXPLANATION_NAME
        known = read_json(path)
        if known is None or known["files"] != result["files"]:  # It was trained again.
            write_json(path, {"files": result["files"], **explain(experiment, method, seed, directory)})
    return 0


def explain(
    experiment: BaseToNovel, method: Method[CLIPPromptArguments], seed: int, directory: Path
) -> dict[str, Any]:
    """Measure what may explain a prompt's accuracy.

    Args:
        experiment: The experiment on the task.
        method: The method; it learns text tokens alone, so that images are encoded once.
        seed: The run's seed.
        directory: Where the run's adapter is.

    Returns:
        The sharpness report on the training images by its fields, and `distance`, the mean over novel classes of
        `1 - cos` between the learned and the hand-written text's features.
    """
    images, _ = experiment.images_to_train_on(method, seed)
    if not isinstance(images, ImageFeatures):
        raise ValueError(
            f"{method.name} learns tokens in the image tower, so its images would be encoded at every point."
        )
    model = PeftModel.from_pretrained(experiment.load_model(), directory, is_trainable=True)
    loader = DataLoader(images, batch_size=len(images))
    report = sharpness.report(  # shorter than by default, since there are a thousand prompts
        model, loader, rhos=RADII, ascent_steps=5, directions=5, probes=10, max_iterations=30, tolerance=1e-2
    )
    return {**dataclasses.asdict(report), "distance": distance_from_zero_shot(model, experiment)}


@torch.no_grad()
def distance_from_zero_shot(model: Any, experiment: BaseToNovel) -> float:
    """The mean over novel classes of `1 - cos` between the learned and the hand-written text's features."""
    names, processor = experiment.novel_class_names, experiment.images.processor
    with model.using_classes(names, processor, model.active_config.class_template):
        learned = model.get_class_features()
    with model.using_classes(names, processor, experiment.images.template), model.disable_adapter():
        written = model.get_class_features()
    return 1 - torch.cosine_similarity(learned, written).mean().item()


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
