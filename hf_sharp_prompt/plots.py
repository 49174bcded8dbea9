"""Figures of runs; they need the `plots` extra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def plot_accuracy_by_epoch(
    histories: Mapping[str, Sequence[Mapping[str, Sequence[float]]]], path: str | Path, title: str = ""
) -> None:
    """Plot base and novel accuracy over the epochs, one line per method, with the spread over its seeds.

    Args:
        histories: Per method, per seed: `base` and `novel`, each an accuracy in [0, 1] per epoch. A method with a
            single value, such as zero-shot CLIP, is drawn as a dashed horizontal line.
        path: The PNG file to write.
        title: Above the figure.
    """
    from matplotlib.figure import Figure  # an extra; the rest of the package works without it

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    figure.suptitle(title)
    for axes, half in zip(figure.subplots(1, 2), ("base", "novel"), strict=True):
        for index, (method, seeds) in enumerate(histories.items()):
            curves = 100 * np.array([seed[half] for seed in seeds])
            average, colour = curves.mean(axis=0), f"C{index}"
            if curves.shape[1] == 1:
                axes.axhline(average[0], color="0.4", linestyle="--", linewidth=1, label=method)
                continue
            epochs = np.arange(1, curves.shape[1] + 1)
            axes.plot(epochs, average, color=colour, label=method)
            axes.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        axes.set(title=f"{half} classes", xlabel="epoch", ylabel="accuracy (%)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
