"""Make the demo's ViT: a stock `ViTForImageClassification` that names everything in an image of the rendered world.

The seen styles are to this ViT what ImageNet-21k is to the published ones: from them it has general features.

```bash
python scripts/pretrain_vit.py                               # remakes the shipped checkpoint
python scripts/pretrain_vit.py --output my_vit --steps 200  # tries it
```
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from pretrain_clip import render_pairs
from pretraining import OptimizationArguments, save, train, waves
from torch.nn.functional import cross_entropy
from torch.utils.data import IterableDataset
from transformers import HfArgumentParser, ViTConfig, ViTForImageClassification, ViTImageProcessorPil, set_seed
from transformers.hf_argparser import DataClassType

from hf_sharp_prompt.demo import VIT_PATH
from hf_sharp_prompt.demo.shapes import SHAPES
from hf_sharp_prompt.demo.textures import TEXTURES
from hf_sharp_prompt.demo.world import COLOURS, IMAGE_SIZE, SIZES, Scene


PATCH_SIZE = 8


@dataclass
class ViTPretrainArguments(OptimizationArguments):
    """What to train, how long, and where to save it."""

    steps: int = field(default=1500, metadata={"help": "updates"})
    output: Path = field(
        default=VIT_PATH,
        metadata={"help": "directory of the checkpoint; replaced as a whole once training has ended"},
    )
    layers: int = field(default=6, metadata={"help": "layers, 144 wide"})


WORDS: dict[str, tuple[str, ...]] = {
    "shape": tuple(SHAPES),
    "texture": tuple(TEXTURES),
    "colour": tuple(COLOURS),
    "backdrop": tuple(COLOURS),
    "size": tuple(SIZES),
}
"""Field of a scene → its words. Each word has a logit, in this order."""


def targets(scenes: list[Scene]) -> torch.Tensor:
    """Number the true words of scenes.

    Args:
        scenes: n scenes.

    Returns:
        The number of the word of each field of `WORDS`, (n, fields).
    """
    return torch.tensor([[words.index(getattr(scene, name)) for name, words in WORDS.items()] for scene in scenes])


def naming_loss(logits: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Add up the cross-entropies of all fields; each field's softmax is over its own words.

    Args:
        logits: logits of all words, (n, words).
        right: the true words, as `targets` returns them, (n, fields).

    Returns:
        The loss, a scalar.
    """
    parts = logits.split([len(words) for words in WORDS.values()], dim=1)
    losses = (cross_entropy(part, right[:, number]) for number, part in enumerate(parts))
    return sum(losses, start=torch.zeros((), device=logits.device))


def build_processor() -> ViTImageProcessorPil:
    """Make the image processor for images of the world."""
    return ViTImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})


def build_model(args: ViTPretrainArguments) -> ViTForImageClassification:
    """Make an untrained ViT of the size in the arguments."""
    labels = [f"{name} {word}" for name, words in WORDS.items() for word in words]
    config = ViTConfig(
        hidden_size=144,
        intermediate_size=576,
        num_hidden_layers=args.layers,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )
    # Written-out attention: for sequences this short, the fused kernel's backward in bfloat16 is several times slower.
    model = ViTForImageClassification(config)
    model.set_attn_implementation("eager")
    positions = model.vit.embeddings.position_embeddings
    with torch.no_grad():
        positions[0, 1:] = 0.5 * waves(IMAGE_SIZE // PATCH_SIZE, config.hidden_size)
    return model


class NamedBatches(IterableDataset):
    """Batches of images and `targets`, rendered on demand; no image comes twice."""

    def __init__(self, args: ViTPretrainArguments, processor: ViTImageProcessorPil) -> None:
        self.args = args
        self.processor = processor

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        size = self.args.batch_size
        for step in range(self.args.steps):
            images, scenes, _ = render_pairs(self.args.seed, range(step * size, (step + 1) * size))
            yield self.processor(list(images), return_tensors="pt")["pixel_values"], targets(scenes)


def name_all(
    args: ViTPretrainArguments, model: ViTForImageClassification, batch: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """The loss of a batch of `NamedBatches`."""
    pixel_values, right = batch
    with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
        logits = model(pixel_values=pixel_values).logits
    return naming_loss(logits.float(), right)


def main(args: ViTPretrainArguments) -> None:
    """Make a checkpoint."""
    set_seed(args.seed)
    processor = build_processor()
    model = build_model(args)
    train(args, model, NamedBatches(args, processor), partial(name_all, args, model))
    save(model.eval(), processor, args.output)


if __name__ == "__main__":
    main(HfArgumentParser(DataClassType(ViTPretrainArguments)).parse_args_into_dataclasses()[0])
