"""Make the demo's CLIPSeg: a stock `CLIPSegForImageSegmentation` on top of the demo's CLIP, trained on scenes.

Its text tower is CLIP's. Its image tower is that of the demo's OWL-ViT, which started from CLIP's and has seen scenes
of several objects; `scripts/pretrain_owlvit.py` comes first. Both stay as they are, and the decoder is trained on more
scenes in the seen styles only. Each image is shown with captions of its own objects and with those of another image.
Prompts that are images (`conditional_pixel_values`) are not trained, and do not work.

```bash
python scripts/pretrain_clipseg.py                                # remakes the shipped checkpoint, in ten minutes
python scripts/pretrain_clipseg.py --output my_clipseg --steps 9  # tries it
```
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from pretraining import OptimizationArguments, save, train
from scene_batches import SceneBatch, SceneBatches, make_batch, tower_configs, tower_weights
from torch.nn.functional import binary_cross_entropy_with_logits, normalize
from transformers import (
    AutoTokenizer,
    CLIPModel,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPSegProcessor,
    HfArgumentParser,
    OwlViTForObjectDetection,
    ViTImageProcessorPil,
    set_seed,
)
from transformers.hf_argparser import DataClassType
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from hf_sharp_prompt.demo import CLIP_PATH, CLIPSEG_PATH, OWLVIT_PATH
from hf_sharp_prompt.demo.scenes import SCENE_SIZE


@dataclass
class CLIPSegPretrainArguments(OptimizationArguments):
    """What to train, how long, and where to save it."""

    steps: int = field(default=1000, metadata={"help": "updates"})
    batch_size: int = field(default=16, metadata={"help": "images per update"})
    muon_learning_rate: float = field(default=2e-3, metadata={"help": "Muon's, which trains the layers' matrices"})
    learning_rate: float = field(default=2e-3, metadata={"help": "AdamW's peak, after a warm-up of 5 %% of the steps"})
    output: Path = field(
        default=CLIPSEG_PATH,
        metadata={"help": "directory of the checkpoint; replaced as a whole once training has ended"},
    )


def build_processor() -> CLIPSegProcessor:
    """Make the image processor, and take CLIP's tokenizer."""
    images = ViTImageProcessorPil(
        size={"height": SCENE_SIZE, "width": SCENE_SIZE},
        image_mean=list(OPENAI_CLIP_MEAN),
        image_std=list(OPENAI_CLIP_STD),
    )
    return CLIPSegProcessor(images, AutoTokenizer.from_pretrained(CLIP_PATH))


def build_model(detector: OwlViTForObjectDetection) -> CLIPSegForImageSegmentation:
    """Make a CLIPSeg with CLIP's text tower, OWL-ViT's image tower and a new decoder."""
    clip = CLIPModel.from_pretrained(CLIP_PATH)
    # Written-out attention: for sequences this short, the fused kernel's backward in bfloat16 is several times slower.
    config = CLIPSegConfig(
        **tower_configs(clip.config),
        extract_layers=[1, 3, 4],
        reduce_dim=64,
        decoder_intermediate_size=256,
        attn_implementation="eager",
    )
    model = CLIPSegForImageSegmentation(config)
    model.clip.load_state_dict(tower_weights(clip))
    image_tower = detector.owlvit.vision_model.state_dict()
    image_tower = {name.replace("pre_layernorm", "pre_layrnorm"): value for name, value in image_tower.items()}
    model.clip.vision_model.load_state_dict(image_tower)
    model.clip.requires_grad_(False)
    return model


def start_decoder(model: CLIPSegForImageSegmentation, detector: OwlViTForObjectDetection, batch: SceneBatch) -> None:
    """Let the decoder start from what the detector's class head knows, so that training takes minutes.

    The head compares patches and texts by a scalar product of `projection_dim` numbers. The decoder's first layer
    multiplies `reduce_dim` numbers of both one by one: here those in the texts' principal directions.

    Args:
        model: the model, whose towers are ready.
        detector: the demo's OWL-ViT.
        batch: scenes to fit the weights to.
    """
    decoder, width = model.decoder, model.config.reduce_dim
    with torch.no_grad():
        texts = model.clip.get_text_features(**batch.captions).pooler_output
        directions = torch.linalg.svd(texts, full_matrices=False).Vh[:width]
        hidden = detector.owlvit.vision_model(batch.pixel_values).last_hidden_state[:, 1:].flatten(0, 1)
        grid, _ = detector.image_embedder(batch.pixel_values)
        named = normalize(detector.class_head.dense0(grid).flatten(0, 2), dim=-1)
        fitted = torch.linalg.lstsq(torch.cat([hidden, torch.ones(len(hidden), 1)], dim=1), named).solution

        # With one sign for all, the sum of the products would be what layer normalisation takes away.
        signs = torch.tensor([1.0, -1.0]).repeat(width // 2)[:, None]
        weights = width**0.5 * signs * directions @ fitted.T
        decoder.reduces[0].weight.copy_(weights[:, :-1])
        decoder.reduces[0].bias.copy_(weights[:, -1])
        decoder.film_mul.weight.copy_(width**0.5 * directions / texts.norm(dim=1).mean())
        decoder.film_add.weight.zero_()
        # What the later layers add is small at first, and nothing is anywhere.
        for reduce in decoder.reduces[1:]:
            reduce.weight.normal_(std=0.01)
        decoder.transposed_convolution.weight.normal_(std=0.1 * width**-0.5)
        decoder.transposed_convolution.bias.fill_(-3)


def pair_up(batch: SceneBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Pair each image with the captions of its own objects and with those of the next image, most of them false.

    Returns:
        The image and the caption of each pair, both (pairs,).
    """
    captions = torch.arange(len(batch.image_of))
    before = (batch.image_of - 1) % len(batch.pixel_values)
    return torch.cat([batch.image_of, before]), torch.cat([captions, captions])


def outline(args: CLIPSegPretrainArguments, model: CLIPSegForImageSegmentation, batch: SceneBatch) -> torch.Tensor:
    """The binary cross-entropy of all pixels of the pairs of a batch: is an object of this caption visible here?"""
    images, captions = pair_up(batch)
    with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
        with torch.no_grad():
            texts = model.clip.get_text_features(**batch.captions).pooler_output
            seen = model.clip.vision_model(batch.pixel_values, output_hidden_states=True).hidden_states
        activations = [seen[layer + 1][images] for layer in model.extract_layers]
        logits = model.decoder(activations, texts[captions]).logits
    # The row after the last object's is that of the backdrop, of which no caption is true.
    true = torch.cat([batch.true, torch.zeros_like(batch.true[:1])])
    return binary_cross_entropy_with_logits(
        logits.float(), true[batch.visible[images], captions[:, None, None]].float()
    )


def main(args: CLIPSegPretrainArguments) -> None:
    """Make a checkpoint."""
    set_seed(args.seed)
    processor = build_processor()
    detector = OwlViTForObjectDetection.from_pretrained(OWLVIT_PATH).eval()
    model = build_model(detector)
    start_decoder(model, detector, make_batch(args.seed, range(64), processor))
    train(args, model, SceneBatches(args, processor), partial(outline, args, model))
    save(model.eval(), processor, args.output)


if __name__ == "__main__":
    main(HfArgumentParser(DataClassType(CLIPSegPretrainArguments)).parse_args_into_dataclasses()[0])
