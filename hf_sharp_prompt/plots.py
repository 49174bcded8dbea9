"""Figures of runs; they need the `plots` extra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .sharpness import Landscape


def plot_accuracy_by_epoch(
    histories: Mapping[str, Sequence[Mapping[str, Sequence[float]]]], path: str | Path, title: str = ""
) -> None:
    """Plot base and novel accuracy over the epochs, one line per method, with the spread over its seeds.

    Args:
        histories: Per method, per seed: `base` and `novel`, each an accuracy in [0, 1] per epoch. A method with a
            single value, such as zero-shot CLIP, is drawn as a dashed horizontal line.
        path: The PNG file to write.
        title: The title of the figure.
    """
    from matplotlib.figure import Figure  # an extra; the rest of the package works without it
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    figure.suptitle(title)
    for axes, half in zip(figure.subplots(1, 2), ("base", "novel"), strict=True):
        for index, (method, seeds) in enumerate(histories.items()):
            curves = 100 * np.array([seed[half] for seed in seeds])
            average, colour = curves.mean(axis=0), f"C{index}"
            if curves.shape[1] == 1:
                axes.axhline(average[0], color=colour, linestyle="--", linewidth=1, label=method)
                continue
            epochs = np.arange(1, curves.shape[1] + 1)
            axes.plot(epochs, average, color=colour, label=method)
            axes.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        axes.set(title=f"{half} classes", xlabel="epoch", ylabel="accuracy (%)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.savefig(path, dpi=150)


def plot_accuracy_by_group(
    results: Mapping[str, Sequence[Mapping[str, float]]], path: str | Path, title: str = ""
) -> None:
    """Plot accuracy over all classes and over those with many, medium and few training samples, a bar per method.

    Args:
        results: Per method, per seed: `overall`, `many`, `medium` and `few`, accuracies in [0, 1]; None or NaN for a
            group without classes. Bars are means over seeds, and a dot is one seed.
        path: The PNG file to write.
        title: The title of the figure.
    """
    from matplotlib.figure import Figure  # an extra; the rest of the package works without it

    groups = ("overall", "many", "medium", "few")
    figure = Figure(figsize=(6.5, 3.5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(results)
    for index, (method, seeds) in enumerate(results.items()):
        accuracies = 100 * np.array([[seed[group] for group in groups] for seed in seeds], dtype=float)
        places = np.arange(len(groups)) + (index - (len(results) - 1) / 2) * width
        axes.bar(places, accuracies.mean(axis=0), width, color=f"C{index}", label=method)
        axes.plot(places, accuracies.T, "o", color="0.2", markersize=2.5)
    axes.set(title=title, xticks=range(len(groups)), xticklabels=groups, ylabel="accuracy (%)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside right upper")
    figure.savefig(path, dpi=150)


def plot_angles(cosines: Mapping[str, Sequence[Sequence[float]]], path: str | Path, title: str = "") -> None:
    """Plot the angle between gradient and perturbed gradient over training.

    Args:
        cosines: Per method and seed, `cos(g, g_p)` by epoch, as the Trainer logs it. Lines are means over seeds;
            bands reach from the lowest seed to the highest.
        path: The PNG file to write.
        title: The title of the figure.
    """
    from matplotlib.figure import Figure  # an extra; the rest of the package works without it
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    for index, (method, seeds) in enumerate(cosines.items()):
        angles = np.degrees(np.arccos(np.clip(np.array(seeds), -1, 1)))
        epochs = np.arange(1, angles.shape[1] + 1)
        axes.plot(epochs, angles.mean(axis=0), color=f"C{index}", label=method)
        axes.fill_between(epochs, angles.min(axis=0), angles.max(axis=0), color=f"C{index}", alpha=0.15, linewidth=0)
    axes.set(title=title, xlabel="epoch", ylabel="angle between gradient\nand perturbed gradient (degrees)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(edgecolor="none")
    figure.savefig(path, dpi=150)


def plot_landscapes(
    landscapes: Mapping[str, Landscape], path: str | Path, title: str = "", highest: float = np.inf
) -> None:
    """Plot loss landscapes side by side as contours, all on one colour scale.

    Args:
        landscapes: Name → landscape, as `sharpness.landscape` returns it. A cross in the middle marks the parameters.
        path: The PNG file to write.
        title: The title of the figure.
        highest: The loss at which colours and contours end; lower it to see more of the minima. By default the
            highest finite loss of all landscapes.

    Raises:
        ValueError: No landscape has a finite loss below `highest`.
    """
    from matplotlib.figure import Figure  # an extra; the rest of the package works without it
    from matplotlib.ticker import MaxNLocator

    losses = [landscape.losses.numpy() for landscape in landscapes.values()]
    finite = [loss for each in losses for loss in each.flat if np.isfinite(loss)]
    if not finite or min(finite) >= highest:
        raise ValueError(f"There is nothing to plot: no landscape has a finite loss below {highest:g}.")
    levels = MaxNLocator(25).tick_values(min(finite), min(max(finite), highest))
    figure = Figure(figsize=(3.6 * len(losses) + 0.8, 4), layout="constrained")
    figure.suptitle(title)
    for axes, (name, landscape) in zip(figure.subplots(1, len(losses), squeeze=False)[0], landscapes.items()):
        # Losses are by column, row, so that the first direction goes to the right. Infinite losses stay white.
        plane = landscape.coordinates, landscape.coordinates, np.ma.masked_invalid(landscape.losses.numpy().T)
        filled = axes.contourf(*plane, levels, extend="max" if max(finite) > levels[-1] else "neither")
        axes.contour(*plane, levels, colors="white", linewidths=0.4, alpha=0.7)
        axes.plot(0, 0, "+", color="white", markersize=9)
        axes.set(title=name, xlabel="first direction", ylabel="second direction", aspect="equal")
    figure.colorbar(filled, ax=figure.axes, label="loss", shrink=0.8)
    figure.savefig(path, dpi=150)
