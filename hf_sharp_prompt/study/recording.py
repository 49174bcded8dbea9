"""The path of a prompt over training, recorded after every epoch.

It is a command of its own, so that tasks are recorded side by side. It takes the arguments of the base-to-novel
protocol and trains the methods with each seed. Of the runs, the path alone is kept.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.nn.utils import parameters_to_vector
from transformers import TrainerCallback

from ..experiments.base_to_novel import BaseToNovel, argument_groups
from ..experiments.failures import run_script
from ..experiments.protocol import start
from ..files import written_whole
from .trajectories import PATH_NAME, Array


class RecordsPath(TrainerCallback):
    """Keeps the parameters that are trained after every epoch.

    Attributes:
        epochs: For each epoch the parameters, flat.
    """

    def __init__(self) -> None:
        self.epochs: list[Array] = []

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
        self.epochs.append(parameters_to_vector(trained).detach().double().cpu().numpy())


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    args, methods, _ = start(argument_groups(), __doc__ or "", argv)
    experiment = BaseToNovel(args.datasets[0], args, methods[0].training)
    for method in methods:
        for seed in args.seeds:
            path = experiment.directory_of(method, seed) / PATH_NAME
            training = experiment.training_of(method, seed)
            with tempfile.TemporaryDirectory() as scratch:
                training.output_dir = scratch
                trainer, recorder = experiment.make_trainer(method, training), RecordsPath()
                trainer.add_callback(recorder)
                trainer.train()
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as unfinished, unfinished.open("wb") as file:
                np.save(file, np.stack(recorder.epochs))
    return 0


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
