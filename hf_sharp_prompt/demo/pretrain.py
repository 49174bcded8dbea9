"""Makes the demo's CLIP: its tokenizer, and a stock `CLIPModel` trained from nothing on the rendered world.

```bash
python -m hf_sharp_prompt.demo.pretrain                                    # remakes the shipped checkpoint
python -m hf_sharp_prompt.demo.pretrain --output my_clip --steps 200       # tries it
```
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, IterableDataset
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    HfArgumentParser,
    get_cosine_schedule_with_warmup,
    set_seed,
)

from .captions import Caption, describe
from .styles import SEEN_STYLES
from .tokenizer import train_tokenizer
from .world import IMAGE_SIZE, Scene, Stream, draw_scene, render


@dataclass
class PretrainArguments:
    """What to train, for how long, and where to put it."""

    output: Path = field(
        default=Path(__file__).parent / "clip",
        metadata={"help": "directory of the checkpoint; replaced as a whole once training has ended"},
    )
    steps: int = field(default=3000, metadata={"help": "updates"})
    batch_size: int = field(default=128, metadata={"help": "pairs of image and caption per update"})
    learning_rate: float = field(default=1e-3, metadata={"help": "AdamW's peak, after a warm-up of 5 % of the steps"})
    muon_learning_rate: float = field(default=4e-3, metadata={"help": "Muon's, which trains the layers' matrices"})
    weight_decay: float = field(default=0.02, metadata={"help": "of both optimizers"})
    vision_layers: int = field(default=5, metadata={"help": "layers of the image tower, 128 wide"})
    text_layers: int = field(default=4, metadata={"help": "layers of the text tower, 128 wide"})
    bf16: bool = field(default=True, metadata={"help": "multiply in bfloat16: twice as fast where the CPU can"})
    log_steps: int = field(default=50, metadata={"help": "updates between two lines of the log"})
    seed: int = field(default=0, metadata={"help": "decides images, captions and initial weights"})


def pair(seed: int, index: int) -> tuple[Scene, Caption]:
    """The scene and the caption of pre-training's `index`-th pair.

    Args:
        seed: of the whole stream of pairs.
        index: from 0 on.

    Returns:
        A scene in one of the seen styles, and a true caption.
    """
    rng = np.random.default_rng((Stream.PRETRAIN_SCENE, seed, index))
    scene = draw_scene(rng, tuple(SEEN_STYLES))
    return scene, describe(scene, rng)


def render_pairs(seed: int, indices: range) -> tuple[np.ndarray, list[Scene], list[Caption]]:
    """Some of pre-training's pairs, images (len(indices), 48, 48, 3) in uint8 first."""
    scenes, captions = zip(*(pair(seed, index) for index in indices))
    keys = [(Stream.PRETRAIN_IMAGE, seed, index) for index in indices]
    return render(scenes, keys), list(scenes), list(captions)


def true_pairs(captions: list[Caption], scenes: list[Scene]) -> torch.Tensor:
    """Which captions are true of which scenes?

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
    """CLIP's symmetric cross-entropy, to which a caption that is true of another image too is no negative for it.

    Args:
        logits: of image i and caption j, (n, n); the pairs are on the diagonal.
        true: which captions are true of which images, bool, (n, n).

    Returns:
        The loss, a scalar.
    """
    own = torch.arange(len(logits))
    false_negative = true & ~torch.eye(len(logits), dtype=torch.bool)
    logits = logits.masked_fill(false_negative, -torch.inf)
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def build_processor(args: PretrainArguments) -> CLIPProcessor:
    """The image processor for images of the world, and a tokenizer trained on its first captions."""
    captions = (pair(args.seed, index)[1].text for index in range(4000))
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    images = CLIPImageProcessorPil(size={"shortest_edge": IMAGE_SIZE}, crop_size=size)
    return CLIPProcessor(images, train_tokenizer(captions))


def build_model(args: PretrainArguments, tokenizer: CLIPTokenizer) -> CLIPModel:
    """An untrained CLIP of the size that the arguments ask for."""
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


def waves(side: int, width: int) -> torch.Tensor:
    """Sines and cosines of row and column: positions that are told apart from the first step on.

    Args:
        side: of the square grid of patches.
        width: of an embedding, a multiple of 4.

    Returns:
        One embedding per patch, (side * side, width).
    """
    frequencies = 20 ** -torch.linspace(0, 1, width // 4)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [place.reshape(-1, 1) * frequencies for place in (rows, columns)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)


class PairBatches(IterableDataset):
    """Batches ready for the model, rendered as they are asked for: no pair comes twice."""

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


def train(args: PretrainArguments, model: CLIPModel, processor: CLIPProcessor) -> None:
    """Trains `model` in place."""
    # Shapes and textures take a plain vision transformer long to see; with Muon about half as many images as with
    # AdamW alone.
    matrices = [p for name, p in model.named_parameters() if ".layers." in name and p.ndim == 2]
    others = [p for name, p in model.named_parameters() if ".layers." not in name or p.ndim != 2]
    muon = torch.optim.Muon(
        matrices, lr=args.muon_learning_rate, weight_decay=args.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(others, lr=args.learning_rate, betas=(0.9, 0.98), weight_decay=args.weight_decay)
    optimizers = (muon, adamw)
    schedules = [get_cosine_schedule_with_warmup(each, args.steps // 20, args.steps) for each in optimizers]
    model.train()
    began = time.perf_counter()
    # One worker renders the next batches on whatever the matrix products leave idle.
    batches = DataLoader(PairBatches(args, processor), batch_size=None, num_workers=1)
    for step, batch in enumerate(batches, start=1):
        true = batch.pop("true")
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            logits = model(**batch).logits_per_image
        loss = contrastive_loss(logits.float(), true)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=np.log(100))
        if step % args.log_steps == 0 or step == args.steps:
            scale, seconds = model.logit_scale.exp().item(), time.perf_counter() - began
            print(f"step {step}/{args.steps}  loss {loss.item():.3f}  scale {scale:.1f}  {seconds:.0f} s", flush=True)


def save(model: CLIPModel, processor: CLIPProcessor, output: Path) -> None:
    """Writes the checkpoint next to `output`, then puts it in `output`'s place.

    The weights are stored in fp16, but the configuration asks for float32, which is what `from_pretrained` follows.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as temporary:
        fresh = Path(temporary, output.name)
        model.half().save_pretrained(fresh)
        model.float()
        for config in (model.config, model.config.text_config, model.config.vision_config):
            config.dtype = torch.float32
        model.config.save_pretrained(fresh)
        processor.save_pretrained(fresh)
        if output.exists():
            shutil.rmtree(output)
        fresh.rename(output)


def main(args: PretrainArguments) -> None:
    """Makes a checkpoint as `args` say."""
    set_seed(args.seed)
    processor = build_processor(args)
    model = build_model(args, processor.tokenizer)
    train(args, model, processor)
    save(model.eval(), processor, args.output)


if __name__ == "__main__":
    main(HfArgumentParser(PretrainArguments).parse_args_into_dataclasses()[0])
