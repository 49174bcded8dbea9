"""The loss around the prompts that methods have learned on a task, as a figure.

It is a command of its own, so that the study itself needs no models. It takes the arguments of the base-to-novel
protocol, finds the adapters that these have trained, and draws the first seed's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from peft import PeftModel
from torch.utils.data import DataLoader

from .. import sharpness
from ..experiments.base_to_novel import BaseToNovel, argument_groups
from ..experiments.failures import run_script
from ..experiments.protocol import start
from ..plots import plot_landscapes


FIGURE_NAME = "landscapes.png"
SPAN, POINTS = 3.0, 21
"""How far to go to either side, in filter norms, and the points along an axis."""


def main(argv: Sequence[str], points: int = POINTS) -> int:
    """Run the command; returns its exit code."""
    args, methods, _ = start(argument_groups(), __doc__ or "", argv)
    experiment, seed = BaseToNovel(args.datasets[0], args, methods[0].training), args.seeds[0]
    landscapes = {}
    for method in methods:
        images, _ = experiment.images_to_train_on(method, seed)
        model = PeftModel.from_pretrained(
            experiment.load_model(), experiment.directory_of(method, seed), is_trainable=True
        )
        loader = DataLoader(images, batch_size=len(images))
        landscapes[method.name] = sharpness.landscape(model, loader, span=SPAN, points=points)
    path = experiment.directory / FIGURE_NAME
    plot_landscapes(landscapes, path, title=f"{experiment.name}, seed {seed}: loss in filter norms of the context")
    return 0


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
