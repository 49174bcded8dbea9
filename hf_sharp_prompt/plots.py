"""Figures of runs; they need the `plots` extra."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:  # Figures of results are drawn without torch.
    from .sharpness import Landscape

BASELINES = ("zero-shot",)
"""What is not trained; it is drawn as a dashed line."""
SHOT_GROUPS = {"overall": "overall", "many": "many", "medium": "medium", "few": "few"}


def plot_accuracy_by_epoch(
    histories: Mapping[str, Sequence[Mapping[str, Sequence[float]]]],
    path: str | Path,
    title: str = "",
    baselines: Collection[str] = BASELINES,
    epochs_between: int = 1,
) -> None:
    """Plot base and novel accuracy over the epochs, one line per method, with the spread over its seeds.

    Args:
        histories: Per method, per seed: `base` and `novel`, each an accuracy in [0, 1] per measurement. A method that
            was measured once is a marker at the last epoch.
        path: The PNG file to write.
        title: The title of the figure.
        baselines: The methods that are dashed horizontal lines, such as zero-shot CLIP.
        epochs_between: The epochs between two measurements; the first is after as many.
    """
    from matplotlib.figure import Figure  # an extra; the rest of the package works without it
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    figure.suptitle(title)
    last = max(len(seed["base"]) for seeds in histories.values() for seed in seeds)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, half in zip(panels, ("base", "novel"), strict=True):
        for index, (method, seeds) in enumerate(histories.items()):
            curves = 100 * np.array([seed[half] for seed in seeds])
            average, colour = curves.mean(axis=0), f"C{index}"
            if method in baselines:
                axes.axhline(average[-1], color=colour, linestyle="--", linewidth=1, label=method)
                continue
            measured = np.arange(1, curves.shape[1] + 1) if curves.shape[1] > 1 else np.array([last])
            epochs = epochs_between * measured
            axes.plot(epochs, average, color=colour, label=method, marker="o" if curves.shape[1] == 1 else None)
            axes.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        axes.set(title=f"{half} classes", xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("accuracy (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.savefig(path, dpi=150)


def plot_curve(curve: Sequence[Mapping[str, float]], names: Sequence[str], path: str | Path) -> None:
    """Plot what was measured in the course of one run, a line for each quantity.

    Args:
        curve: The measurements, oldest first: `epoch` or `step`, and quantities by their names; losses as they are,
            all others in [0, 1]. A measurement may lack a quantity.
        names: The names of the quantities to plot. They may be anybody's words.
        path: The PNG file to write.
    """
    from matplotlib.figure import Figure  # an extra; the rest of the package works without it
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(5, 2.8))
    figure.subplots_adjust(left=0.13, right=0.96, top=0.86, bottom=0.18)
    axes, at = figure.subplots(), "epoch" if all("epoch" in row for row in curve) else "step"
    are_losses = all(name.endswith("loss") for name in names)
    for name in names:
        points = [(row[at], row[name]) for row in curve if name in row and at in row and np.isfinite(row[name])]
        places, values = np.array(points).reshape(-1, 2).T
        axes.plot(places, values if are_losses else 100 * values, label=" ".join(name.replace("_", " ").split())[:40])
    axes.set(xlabel=at, ylabel="loss" if are_losses else "percent")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    legend = axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(names), borderaxespad=0)
    for text in legend.get_texts():
        text.set_parse_math(False)
    figure.savefig(path, dpi=110)


def plot_accuracy_by_shots(
    accuracies: Mapping[str, Mapping[str, Sequence[float]]],
    shots: Sequence[str],
    path: str | Path,
    title: str = "",
    baselines: Collection[str] = BASELINES,
) -> None:
    """Plot accuracy over the number of training images per class, one line per method, with the spread over its seeds.

    Args:
        accuracies: Per method and number of shots, an accuracy in [0, 1] per seed.
        shots: The numbers of shots in the order of the axis; they stand at equal distances.
        path: The PNG file to write.
        title: The title of the figure.
        baselines: The methods that are dashed horizontal lines, such as zero-shot CLIP.
    """
    from matplotlib.figure import Figure  # an extra; the rest of the package works without it

    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    axes = figure.subplots()
    for index, (method, by_shots) in enumerate(accuracies.items()):
        places = [place for place, number in enumerate(shots) if number in by_shots]
        seeds = [100 * np.array(by_shots[shots[place]]) for place in places]
        average, colour = [each.mean() for each in seeds], f"C{index}"
        if method in baselines:
            axes.axhline(average[-1], color=colour, linestyle="--", linewidth=1, label=method)
            continue
        axes.plot(places, average, color=colour, label=method, marker="o", markersize=4)
        lowest, highest = [each.min() for each in seeds], [each.max() for each in seeds]
        axes.fill_between(places, lowest, highest, color=colour, alpha=0.15, linewidth=0)
    axes.set(title=title, xlabel="training images per class", ylabel="accuracy (%)")
    axes.set_xticks(range(len(shots)), shots)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside right center")
    figure.savefig(path, dpi=150)


def plot_accuracy_by_group(
    results: Mapping[str, Sequence[Mapping[str, float | None]]],
    path: str | Path,
    title: str = "",
    groups: Mapping[str, str] = SHOT_GROUPS,
) -> None:
    """Plot accuracy on groups of images, a bar per method.

    Args:
        results: Per method, per seed: the accuracy of each group, in [0, 1]; None or NaN for one without images. Bars
            are means over seeds, and a dot is one seed.
        path: The PNG file to write.
        title: The title of the figure.
        groups: Name → key of a result; by default all classes and those with many, medium and few training images.
    """
    from matplotlib.figure import Figure  # an extra; the rest of the package works without it

    longest = max(map(len, groups))
    figure = Figure(figsize=(max(6.5, 1.4 * len(groups) + 1), 3.5 + 0.03 * longest), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(results)
    for index, (method, seeds) in enumerate(results.items()):
        accuracies = 100 * np.array([[seed.get(key) for key in groups.values()] for seed in seeds], dtype=float)
        places = np.arange(len(groups)) + (index - (len(results) - 1) / 2) * width
        axes.bar(places, accuracies.mean(axis=0), width, color=f"C{index}", label=method)
        axes.plot(places, accuracies.T, "o", color="0.2", markersize=2.5)
    axes.set(title=title, ylabel="accuracy (%)")
    axes.set_xticks(range(len(groups)), list(groups), rotation=20 if longest > 12 else 0)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside right upper")
    figure.savefig(path, dpi=150)


def plot_segmentations(
    images: Sequence[np.ndarray],
    maps: Mapping[str, Sequence[np.ndarray]],
    class_names: Sequence[str],
    path: str | Path,
    title: str = "",
) -> None:
    """Draw images in rows, and beside each the class of its pixels, each class in a colour of its own.

    Args:
        images: Images, height × width × 3, of 8 bits.
        maps: Heading → for each image the class of each pixel, height × width; below 0 where there is none, which
            stays black, or where the truth does not count, which stays white.
        class_names: The names of the classes.
        path: The PNG file to write.
        title: The title of the figure.
    """
    from matplotlib import colormaps  # an extra; the rest of the package works without it
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    count = len(class_names)
    palette = colormaps["tab20"](np.arange(count)) if count <= 20 else colormaps["hsv"](np.arange(count) / count)
    table = np.array([[1, 1, 1], [0, 0, 0], *palette[:, :3]])
    figure = Figure(figsize=(1.6 * (len(maps) + 1) + 2, 1.6 * len(images) + 0.5), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(len(images), len(maps) + 1, squeeze=False)
    for row, (axes, image) in enumerate(zip(grid, images)):
        pictures = {"image": image, **{name: table[np.clip(each[row], -2, None) + 2] for name, each in maps.items()}}
        for place, (name, picture) in zip(axes, pictures.items()):
            place.imshow(picture, interpolation="nearest")
            place.set(xticks=[], yticks=[], title=name if row == 0 else "")
    shown = {int(label) for each in maps.values() for of_image in each for label in np.unique(of_image)} - {-100}
    names = {label: class_names[label] if label >= 0 else "background" for label in sorted(shown)}
    patches = [Patch(facecolor=table[label + 2], edgecolor="grey", label=name) for label, name in names.items()]
    figure.legend(handles=patches, loc="outside right center", frameon=False, fontsize="small")
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
        marker = "o" if len(epochs) == 1 else None
        axes.plot(epochs, angles.mean(axis=0), color=f"C{index}", label=method, marker=marker)
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
