"""Draw README's picture of the embedded demo, a row of images per task: `python scripts/make_demo_picture.py`."""

from pathlib import Path

from matplotlib.figure import Figure

from hf_sharp_prompt.demo import UNFAMILIAR_TASKS


PICTURE = Path(__file__).parents[1] / "docs" / "images" / "demo.png"
COLUMNS = 12


def main() -> None:
    figure = Figure(figsize=(COLUMNS * 0.8 + 1.6, len(UNFAMILIAR_TASKS) * 1.0), layout="constrained")
    rows = figure.subplots(len(UNFAMILIAR_TASKS), COLUMNS)
    for task, row in zip(UNFAMILIAR_TASKS.values(), rows, strict=True):
        images, labels = task.images("test", per_class=1)
        for axes, index in zip(row, range(0, 7 * COLUMNS, 7), strict=True):
            index %= len(labels)
            axes.imshow(images[index])
            axes.set_title(task.classes[labels[index]], fontsize=5.5, pad=2)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(task.name.replace("_", " "), rotation=0, ha="right", va="center", fontsize=7)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=85)


if __name__ == "__main__":
    main()
