"""Make the demo's CLIPSeg: a stock `CLIPSegForImageSegmentation` on top of the demo's CLIP, trained on rendered scenes.

```bash
python scripts/pretrain_clipseg.py                                # remakes the shipped checkpoint, in half an hour
python scripts/pretrain_clipseg.py --output my_clipseg --steps 9  # tries it
```
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from pretraining import OptimizationArguments, draw_weights, save, train
from scene_batches import SceneBatch, SceneBatches, tower_configs, tower_weights
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import (
    AutoTokenizer,
    CLIPModel,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPSegProcessor,
    HfArgumentParser,
    ViTImageProcessorPil,
    set_seed,
)
from transformers.hf_argparser import DataClassType
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from hf_sharp_prompt.demo import CLIP_PATH, CLIPSEG_PATH
from hf_sharp_prompt.demo.scenes import SCENE_SIZE


@dataclass
class CLIPSegPretrainArguments(OptimizationArguments):
    """What to train, how long, and where to save it."""

    steps: int = field(default=1500, metadata={"help": "updates"})
    batch_size: int = field(default=32, metadata={"help": "images per update"})
    muon_learning_rate: float = field(default=2e-3, metadata={"help": "Muon's, which trains the layers' matrices"})
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


def build_model() -> CLIPSegForImageSegmentation:
    """Make a CLIPSeg with CLIP's towers and a new decoder."""
    clip = CLIPModel.from_pretrained(CLIP_PATH)
    # Written-out attention: for sequences this short, the fused kernel's backward in bfloat16 is several times slower.
    config = CLIPSegConfig(
        **tower_configs(clip.config),
        extract_layers=[1, 2, 3],
        reduce_dim=64,
        decoder_intermediate_size=256,
        attn_implementation="eager",
    )
    model = CLIPSegForImageSegmentation(config)
    model.clip.load_state_dict(tower_weights(clip))
    model.clip.requires_grad_(False)
    decoder = model.decoder
    draw_weights(*decoder.reduces, decoder.film_mul, decoder.film_add)
    with torch.no_grad():
        # At first nothing is anywhere.
        decoder.transposed_convolution.weight.normal_(std=0.1 * config.reduce_dim**-0.5)
        decoder.transposed_convolution.bias.fill_(-3)
    return model


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
    model = build_model()
    train(args, model, SceneBatches(args, processor), partial(outline, args, model))
    save(model.eval(), processor, args.output)


if __name__ == "__main__":
    main(HfArgumentParser(DataClassType(CLIPSegPretrainArguments)).parse_args_into_dataclasses()[0])
