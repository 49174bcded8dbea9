"""Draw the pictures of the embedded demo's suites, a row of images per task: `python scripts/make_demo_picture.py`."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from hf_sharp_prompt.demo import FAMILIAR_TASKS, UNFAMILIAR_TASKS, Task


PICTURES = Path(__file__).parents[1] / "docs" / "images"
COLUMNS = 12
STEP = 11  # From column to column, in classes: neighbours differ in every word.


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    draw(UNFAMILIAR_TASKS, PICTURES / "demo.png")
    draw(FAMILIAR_TASKS, PICTURES / "familiar.png")


def draw(tasks: Mapping[str, Task], path: Path) -> None:
    """Draw some images of each task, with the names of their classes."""
    figure = Figure(figsize=(COLUMNS * 0.8 + 1.6, len(tasks) * 1.0), layout="constrained")
    rows = figure.subplots(len(tasks), COLUMNS)
    for task, row in zip(tasks.values(), rows, strict=True):
        images, labels = task.images("test", per_class=1)
        for axes, index in zip(row, range(0, STEP * COLUMNS, STEP), strict=True):
            index %= len(labels)
            name = task.classes[labels[index]]
            axes.imshow(images[index])
            axes.set_title(name, fontsize=min(5.5, 90 / len(name)), pad=2)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(task.name.replace("_", " "), rotation=0, ha="right", va="center", fontsize=7)
    figure.savefig(path, dpi=85)


if __name__ == "__main__":
    main()
