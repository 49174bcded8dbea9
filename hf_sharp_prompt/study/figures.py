"""The study's figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .trajectories import spectrum


LABELLED = ("coop", "coop_sam", "gcscoop", "subpt", "subpt_nfl", "kgcoop")
"""The methods that a scatter names in colour; all others are grey."""
COLUMNS = 3  # panels side by side


def plot_spectra(paths: Mapping[str, Sequence[NDArray[np.float64]]], file: Path, title: str) -> None:
    """Plot the eigenvalues of paths' covariances, each line the mean over paths, with all of them as a band.

    Args:
        paths: By name of the stretch, the paths, each epochs × parameters.
        file: The PNG file to write.
        title: The title.
    """
    from matplotlib.figure import Figure  # an extra; the rest of the package works without it

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    figure.suptitle(title)
    absolute, relative = figure.subplots(1, 2)
    for index, (name, each) in enumerate(paths.items()):
        eigenvalues = np.array([spectrum(path)[0][:10] for path in each])
        shares = np.array([spectrum(path)[0][:10] / spectrum(path)[0].sum() for path in each])
        for axes, values in ((absolute, eigenvalues), (relative, shares)):
            places = np.arange(1, values.shape[1] + 1)
            axes.plot(places, values.mean(axis=0), color=f"C{index}", marker="o", markersize=3, label=name)
            axes.fill_between(
                places, values.min(axis=0), values.max(axis=0), color=f"C{index}", alpha=0.15, linewidth=0
            )
    absolute.set(yscale="log", xlabel="eigenvalue", ylabel="variance along it")
    relative.set(xlabel="eigenvalue", ylabel="share of the variance")
    for axes in (absolute, relative):
        axes.spines[["top", "right"]].set_visible(False)
    absolute.legend(edgecolor="none")
    figure.savefig(file, dpi=150)


def plot_scatter(panels: Mapping[str, Mapping[str, tuple[float, float]]], file: Path, title: str, ylabel: str) -> None:
    """Plot an accuracy against several quantities, a panel for each, and a point for each method.

    Args:
        panels: By the name of the quantity on the horizontal axis, each method's point. The axis is logarithmic if the
            largest is more than three times the smallest.
        file: The PNG file to write.
        title: The title.
        ylabel: The name of the accuracy.
    """
    from matplotlib.figure import Figure  # an extra; the rest of the package works without it
    from matplotlib.ticker import NullFormatter

    rows = math.ceil(len(panels) / COLUMNS)
    figure = Figure(figsize=(3.2 * COLUMNS + 1.4, 2.9 * rows), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, (name, points) in zip(grid.flat, panels.items()):
        for method, (x, y) in points.items():
            if method in LABELLED:
                axes.plot(x, y, "o", color=f"C{LABELLED.index(method)}", label=method, zorder=3)
            else:
                axes.plot(x, y, ".", color="0.6")
                label = method.removeprefix("coop_")
                axes.annotate(label, (x, y), (3, 3), textcoords="offset points", fontsize=6, color="0.4")
        axes.set(xlabel=name)
        across = [x for x, _ in points.values()]
        if max(across) > 3 * min(across) > 0:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.spines[["top", "right"]].set_visible(False)
    for row in grid:
        row[0].set_ylabel(ylabel)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.savefig(file, dpi=150)
