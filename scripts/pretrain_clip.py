"""Make the demo's CLIP: its tokenizer, and a stock `CLIPModel` trained from scratch on the rendered world.

```bash
python scripts/pretrain_clip.py                               # remakes the shipped checkpoint, in half an hour
python scripts/pretrain_clip.py --output my_clip --steps 200  # tries it
```
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from captions import Caption, describe
from pretraining import OptimizationArguments, save, train, waves
from tokenizer import train_tokenizer
from torch.nn.functional import cross_entropy
from torch.utils.data import IterableDataset
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    HfArgumentParser,
    set_seed,
)
from transformers.hf_argparser import DataClassType

from hf_sharp_prompt.demo import CLIP_PATH
from hf_sharp_prompt.demo.styles import SEEN_STYLES
from hf_sharp_prompt.demo.world import IMAGE_SIZE, Scene, Stream, draw_scene, render


@dataclass
class PretrainArguments(OptimizationArguments):
    """What to train, how long, and where to save it."""

    output: Path = field(
        default=CLIP_PATH,
        metadata={"help": "directory of the checkpoint; replaced as a whole once training has ended"},
    )
    vision_layers: int = field(default=5, metadata={"help": "layers of the image tower, 128 wide"})
    text_layers: int = field(default=4, metadata={"help": "layers of the text tower, 128 wide"})


def pair(seed: int, index: int) -> tuple[Scene, Caption]:
    """Draw the scene and the caption of pre-training's `index`-th pair.

    Args:
        seed: seed of the whole stream of pairs.
        index: number of the pair, from 0.

    Returns:
        A scene in one of the seen styles, and a true caption.
    """
    rng = np.random.default_rng((Stream.PRETRAIN_SCENE, seed, index))
    scene = draw_scene(rng, tuple(SEEN_STYLES))
    return scene, describe(scene, rng)


def render_pairs(seed: int, indices: range) -> tuple[np.ndarray, list[Scene], list[Caption]]:
    """Render some of pre-training's pairs: images (len(indices), 48, 48, 3) in uint8, scenes and captions."""
    scenes, captions = zip(*(pair(seed, index) for index in indices))
    keys = [(Stream.PRETRAIN_IMAGE, seed, index) for index in indices]
    return render(scenes, keys), list(scenes), list(captions)


def true_pairs(captions: list[Caption], scenes: list[Scene]) -> torch.Tensor:
    """Tell which captions are true of which scenes.

    Args:
        captions: m captions.
        scenes: n scenes.

    Returns:
        bool, (n, m): caption j says nothing wrong about scene i.
    """
    fields = list(Scene.__dataclass_fields__)
    words = np.asarray([[getattr(scene, name) for name in fields] for scene in scenes])
    claims = np.asarray([[caption.stated.get(name, "") for name in fields] for caption in captions])
    return torch.from_numpy(((words[:, None] == claims) | (claims == "")).all(axis=-1))


def contrastive_loss(logits: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """CLIP's symmetric cross-entropy; a caption that is also true of another image is no negative for that image.

    Args:
        logits: logits of image i and caption j, (n, n); the pairs are on the diagonal.
        true: which captions are true of which images, bool, (n, n).

    Returns:
        The loss, a scalar.
    """
    own = torch.arange(len(logits))
    false_negative = true & ~torch.eye(len(logits), dtype=torch.bool)
    logits = logits.masked_fill(false_negative, -torch.inf)
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def build_processor(args: PretrainArguments) -> CLIPProcessor:
    """Make the image processor, and a tokenizer trained on the first captions."""
    captions = (pair(args.seed, index)[1].text for index in range(4000))
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    images = CLIPImageProcessorPil(size={"shortest_edge": IMAGE_SIZE}, crop_size=size)
    return CLIPProcessor(images, train_tokenizer(captions))


def build_model(args: PretrainArguments, tokenizer: CLIPTokenizer) -> CLIPModel:
    """Make an untrained CLIP of the size in the arguments."""
    width = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "projection_dim": 128}
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        text_config={"vocab_size": len(tokenizer), "num_hidden_layers": args.text_layers, **width, **special},
        vision_config={"image_size": IMAGE_SIZE, "patch_size": 8, "num_hidden_layers": args.vision_layers, **width},
        projection_dim=128,
    )
    # Written-out attention: for sequences this short, the fused kernel's backward in bfloat16 is several times slower.
    model = CLIPModel(config)
    model.set_attn_implementation("eager")
    positions = model.vision_model.embeddings.position_embedding.weight
    with torch.no_grad():
        positions[1:] = 0.5 * waves(IMAGE_SIZE // 8, positions.shape[1])
    return model


class PairBatches(IterableDataset):
    """Batches for the model, rendered on demand; no pair comes twice."""

    def __init__(self, args: PretrainArguments, processor: CLIPProcessor) -> None:
        self.args = args
        self.processor = processor

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        size = self.args.batch_size
        for step in range(self.args.steps):
            images, scenes, captions = render_pairs(self.args.seed, range(step * size, (step + 1) * size))
            texts = [caption.text for caption in captions]
            batch = self.processor(text=texts, images=list(images), padding=True, return_tensors="pt")
            yield {**batch, "true": true_pairs(captions, scenes)}


def contrast(args: PretrainArguments, model: CLIPModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The contrastive loss of a batch of `PairBatches`."""
    with torch.no_grad():
        model.logit_scale.clamp_(max=np.log(100))
    batch = dict(batch)
    true = batch.pop("true")
    with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
        logits = model(**batch).logits_per_image
    return contrastive_loss(logits.float(), true)


def main(args: PretrainArguments) -> None:
    """Make a checkpoint."""
    set_seed(args.seed)
    processor = build_processor(args)
    model = build_model(args, processor.tokenizer)
    train(args, model, PairBatches(args, processor), partial(contrast, args, model))
    save(model.eval(), processor, args.output)


if __name__ == "__main__":
    main(HfArgumentParser(DataClassType(PretrainArguments)).parse_args_into_dataclasses()[0])
