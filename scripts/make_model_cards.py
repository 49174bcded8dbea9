"""Train two adapters on the demo, and leave them in model_cards/ with their cards.

Each folder is what a push would send, so that the code of its card runs in the checkout:
`python scripts/make_model_cards.py`.
"""

import sys
import tempfile
from pathlib import Path

from peft import PeftModel
from transformers import CLIPModel

from hf_sharp_prompt.cards.writing import save_card
from hf_sharp_prompt.demo import CLIP_PATH, DEFAULT_TASK
from hf_sharp_prompt.experiments.base_to_novel import main as base_to_novel
from hf_sharp_prompt.experiments.publishing import copy_published


ROOT = Path(__file__).parents[1]
RECIPES = ("gcscoop", "vpt")


def main() -> int:
    """Train, and copy what is published; returns the exit code of the training."""
    with tempfile.TemporaryDirectory() as runs:
        code = base_to_novel(["--recipes", *RECIPES, "--seeds", "1", "--output_dir", runs])
        for recipe in RECIPES if code == 0 else ():
            publish(Path(runs, DEFAULT_TASK, recipe, "seed1"), Path("model_cards", f"demo-{recipe}"))
    return code


def publish(run: Path, place: Path) -> None:
    """Copy a run's adapter to a place in the checkout, with a card that loads it from there."""
    model = PeftModel.from_pretrained(CLIPModel.from_pretrained(CLIP_PATH), run)
    (ROOT / place).mkdir(exist_ok=True)
    copy_published(run, ROOT / place)
    save_card(model, ROOT / place, place.as_posix())


if __name__ == "__main__":
    sys.exit(main())
