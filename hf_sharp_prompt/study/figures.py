"""The study's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .trajectories import spectrum


LABELLED = ("coop", "coop_sam", "gcscoop", "subpt", "subpt_nfl", "kgcoop")
"""The methods that a scatter names in colour; all others are grey."""


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


def plot_scatter(
    panels: Mapping[str, Mapping[str, tuple[float, float]]],
    file: Path,
    title: str,
    ylabel: str,
    logarithmic: bool = True,
) -> None:
    """Plot a quantity against another, a point per method, a panel per quantity.

    Args:
        panels: By the name of the quantity on the horizontal axis, each method's point.
        file: The PNG file to write.
        title: The title.
        ylabel: The name of the quantity on the vertical axis.
        logarithmic: Whether horizontal axes are logarithmic.
    """
    from matplotlib.figure import Figure  # an extra; the rest of the package works without it

    figure = Figure(figsize=(3.4 * len(panels) + 1.4, 3.6), layout="constrained")
    figure.suptitle(title)
    rows = figure.subplots(1, len(panels), sharey=True, squeeze=False)
    for axes, (name, points) in zip(rows[0], panels.items()):
        for method, (x, y) in points.items():
            is_named = method in LABELLED
            colour = f"C{LABELLED.index(method)}" if is_named else "0.6"
            axes.plot(x, y, "o", color=colour, label=method if is_named else None, zorder=3 if is_named else 2)
            if not is_named:
                axes.annotate(
                    method.removeprefix("coop_"),
                    (x, y),
                    fontsize=6,
                    color="0.4",
                    textcoords="offset points",
                    xytext=(3, 3),
                )
        axes.set(xlabel=name)
        if logarithmic:
            axes.set_xscale("log")
        axes.spines[["top", "right"]].set_visible(False)
    rows[0][0].set_ylabel(ylabel)
    figure.legend(*rows[0][0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.savefig(file, dpi=150)
