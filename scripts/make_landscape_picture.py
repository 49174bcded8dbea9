"""Draw the loss around the prompts of CoOp and GCSCoOp that the main job learned on the demo, and print its sharpness:

accelerate launch examples/run_base2novel.py && python scripts/make_landscape_picture.py
"""

from pathlib import Path

import torch
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import AutoProcessor, CLIPModel

from hf_sharp_prompt import demo, sharpness
from hf_sharp_prompt.data import ImageCollator, ImageFeatures, base_to_novel, few_shot, load_image_dataset
from hf_sharp_prompt.plots import plot_landscapes


RUNS = Path("runs/base2novel", demo.DEFAULT_TASK)
METHODS = {"CoOp": "coop", "GCSCoOp": "gcscoop"}
SEED, SHOTS = 1, 16
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "landscapes.png"


def main() -> None:
    loader = load_shots()
    landscapes = {}
    for name, method in METHODS.items():
        clip = CLIPModel.from_pretrained(demo.CLIP_PATH).eval()
        model = PeftModel.from_pretrained(clip, RUNS / method / f"seed{SEED}", is_trainable=True)
        landscapes[name] = sharpness.landscape(model, loader, span=3.0, points=25)
        print(f"{name}\n{sharpness.report(model, loader)}\n")
    plot_landscapes(landscapes, PICTURE, title="Loss on the training images, in filter norms of the context")


def load_shots() -> DataLoader:
    """Encode the images that the runs were trained on with the frozen image tower."""
    base, _ = base_to_novel(few_shot(load_image_dataset(demo.DEFAULT_TASK), SHOTS, SEED))
    clip = CLIPModel.from_pretrained(demo.CLIP_PATH).eval()
    collator = ImageCollator(AutoProcessor.from_pretrained(demo.CLIP_PATH))
    with torch.no_grad():
        features = ImageFeatures.compute(
            base["train"], lambda pixels: clip.get_image_features(pixels).pooler_output, collator
        )
    return DataLoader(features, batch_size=len(features))


if __name__ == "__main__":
    main()
