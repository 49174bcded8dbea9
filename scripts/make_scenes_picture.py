"""Draw the picture of the demo's scenes with boxes and masks: `python scripts/make_scenes_picture.py`."""

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hf_sharp_prompt.demo import SCENE_TASKS
from hf_sharp_prompt.demo.scenes import BACKDROP, find_boxes


PICTURE = Path(__file__).parents[1] / "docs" / "images" / "scenes.png"
COLUMNS = 6
COLOURS = colormaps["tab20"]


def outline(axes: Axes, image: np.ndarray, visible: np.ndarray, names: list[str], labels: list[int]) -> None:
    """Show an image; draw the boxes of its objects, and write their names."""
    axes.imshow(image)
    for (left, top, width, height), name, label in zip(find_boxes(visible, len(names)), names, labels):
        colour = COLOURS(label)
        axes.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, color=colour, linewidth=1.2))
        axes.text(left, top - 1.5, name, color="white", fontsize=4.5, backgroundcolor=(*colour[:3], 0.8)).set_bbox(
            {"facecolor": colour, "pad": 0.6, "linewidth": 0}
        )


def paint_mask(axes: Axes, visible: np.ndarray, labels: list[int]) -> None:
    """Show the class of each pixel; the backdrop, which has no label, is white."""
    classes = COLOURS(np.asarray(labels)[visible])
    axes.imshow(np.where((visible == BACKDROP)[..., None], 1.0, classes))


def main() -> None:
    figure = Figure(figsize=(COLUMNS * 1.3 + 1.6, len(SCENE_TASKS) * 2.6), layout="constrained")
    rows = figure.subplots(2 * len(SCENE_TASKS), COLUMNS)
    for number, task in enumerate(SCENE_TASKS.values()):
        images, visible, labels = task.scenes("validation")
        several = [index for index, of_image in enumerate(labels) if len(of_image) > 1][:COLUMNS]
        for column, index in enumerate(several):
            above, below = rows[2 * number, column], rows[2 * number + 1, column]
            names = [task.classes[label] for label in labels[index]]
            outline(above, images[index], visible[index], names, labels[index])
            paint_mask(below, visible[index], labels[index])
            for axes in (above, below):
                axes.set(xticks=[], yticks=[])
        rows[2 * number, 0].set_ylabel(task.name.replace("_", " "), rotation=0, ha="right", va="center", fontsize=7)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    main()
