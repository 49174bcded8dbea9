"""Make `examples/space`: two prompts of the demo's default task, and images of it to pick from.

    python scripts/make_demo_space.py

The adapters are those of `sharp-prompt train --shots 16 --seeds 1 --recipes RECIPE`. It takes two minutes on 2 CPU
cores.
"""

import tempfile
from pathlib import Path

from PIL import Image

from hf_sharp_prompt.__main__ import run
from hf_sharp_prompt.demo import DEFAULT_TASK, TASKS
from hf_sharp_prompt.files import written_whole
from hf_sharp_prompt.space.writing import write_space


SPACE = Path(__file__).parents[1] / "examples" / "space"

RECIPES = ("coop", "gcscoop")

SHOWN = ("black heart", "blue star", "green moon", "orange cross", "pink circle", "yellow triangle")


def main() -> None:
    """Train, and write the folder."""
    task = TASKS[DEFAULT_TASK]
    with tempfile.TemporaryDirectory() as parent, written_whole(SPACE) as unfinished:
        for recipe in RECIPES:
            words = ["train", "--dataset", task.name, "--recipes", recipe, "--shots", "16", "--seeds", "1"]
            run([*words, "--output_dir", parent])
        adapters = [f"{parent}/{task.name}/{recipe}/seed1" for recipe in RECIPES]
        images = []
        counts = [int(name in SHOWN) for name in task.classes]
        for pixels, label in zip(*task.images("test", counts), strict=True):
            images.append(f"{parent}/{task.classes[label].replace(' ', '_')}.png")
            Image.fromarray(pixels).save(images[-1])
        write_space(unfinished, adapters, images=images, requirement="hf-sharp-prompt[space]")  # of any version


if __name__ == "__main__":
    main()
