"""Make the demo's OWL-ViT: a stock `OwlViTForObjectDetection` on top of the demo's CLIP, trained on rendered scenes.

Its text tower is CLIP's and stays as it is. Its image tower starts from CLIP's and is trained together with the heads,
on scenes of 1 to 4 objects of all colours, textures and shapes, in the seen styles only. Its queries are captions in
varied words. So it knows every word of the tasks' classes, but has never seen their styles.

```bash
python scripts/pretrain_owlvit.py                               # remakes the shipped checkpoint, in 20 minutes
python scripts/pretrain_owlvit.py --output my_owlvit --steps 9  # tries it
```
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from pretraining import OptimizationArguments, save, train
from scene_batches import SceneBatch, SceneBatches, tower_configs, tower_weights
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import logsigmoid
from transformers import (
    AutoTokenizer,
    CLIPModel,
    HfArgumentParser,
    OwlViTConfig,
    OwlViTForObjectDetection,
    OwlViTImageProcessorPil,
    OwlViTProcessor,
    set_seed,
)
from transformers.hf_argparser import DataClassType
from transformers.image_transforms import center_to_corners_format
from transformers.loss.loss_for_object_detection import generalized_box_iou

from hf_sharp_prompt.demo import CLIP_PATH, OWLVIT_PATH
from hf_sharp_prompt.demo.scenes import SCENE_SIZE


TEXT_LENGTH = 32
"""Most tokens in a query. The stock processor pads all queries to this length, so CLIP's 77 would cost time."""

ALPHA, GAMMA = 0.3, 2.0
"""The focal loss's weight of the positives and its exponent, as published."""


@dataclass
class OwlViTPretrainArguments(OptimizationArguments):
    """What to train, how long, and where to save it."""

    steps: int = field(default=2000, metadata={"help": "updates"})
    batch_size: int = field(default=32, metadata={"help": "images per update"})
    muon_learning_rate: float = field(default=2e-3, metadata={"help": "Muon's, which trains the layers' matrices"})
    output: Path = field(
        default=OWLVIT_PATH,
        metadata={"help": "directory of the checkpoint; replaced as a whole once training has ended"},
    )


def build_processor() -> OwlViTProcessor:
    """Make the image processor, and take CLIP's tokenizer."""
    size = {"height": SCENE_SIZE, "width": SCENE_SIZE}
    tokenizer = AutoTokenizer.from_pretrained(CLIP_PATH, model_max_length=TEXT_LENGTH)
    return OwlViTProcessor(OwlViTImageProcessorPil(size=size, crop_size=size), tokenizer)


def build_model() -> OwlViTForObjectDetection:
    """Make an OWL-ViT with CLIP's towers and new heads."""
    clip = CLIPModel.from_pretrained(CLIP_PATH)
    configs = tower_configs(clip.config)
    configs["text_config"]["max_position_embeddings"] = TEXT_LENGTH
    model = OwlViTForObjectDetection(OwlViTConfig(**configs))
    weights = {name.replace("pre_layrnorm", "pre_layernorm"): value for name, value in tower_weights(clip).items()}
    positions = "text_model.embeddings.position_embedding.weight"
    weights[positions] = weights[positions][:TEXT_LENGTH]
    model.owlvit.load_state_dict(weights)
    with torch.no_grad():
        # At first a patch is named as CLIP names an image, and nothing is found with certainty.
        model.class_head.dense0.weight.copy_(clip.visual_projection.weight)
        for linear, value in ((model.class_head.logit_scale, 9.0), (model.class_head.logit_shift, -0.5)):
            linear.weight.zero_()
            linear.bias.fill_(value)
        # At first a patch's box is the patch. Stock initial weights have a deviation of 1, which saturates all boxes.
        for linear in (model.box_head.dense0, model.box_head.dense1):
            linear.weight.normal_(std=linear.in_features**-0.5)
        model.box_head.dense2.weight.zero_()
    for frozen in (model.owlvit.text_model, model.owlvit.text_projection, model.owlvit.visual_projection):
        frozen.requires_grad_(False)
    model.owlvit.logit_scale.requires_grad_(False)
    # Written-out attention: for sequences this short, the fused kernel's backward in bfloat16 is several times slower.
    model.set_attn_implementation("eager")
    return model


def focal_terms(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the focal loss of each logit if it should be high, and if it should be low."""
    probability = logits.sigmoid()
    high = -ALPHA * (1 - probability) ** GAMMA * logsigmoid(logits)
    low = -(1 - ALPHA) * probability**GAMMA * logsigmoid(-logits)
    return high, low


def match(cost: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Assign to each object its own patch, so that the sum of the costs is smallest; `cost` is (patches, objects)."""
    patches, objects = linear_sum_assignment(cost.detach().numpy())
    return torch.from_numpy(patches), torch.from_numpy(objects)


def detection_loss(logits: torch.Tensor, boxes: torch.Tensor, batch: SceneBatch) -> torch.Tensor:
    """Match patches with objects, and add the focal loss of their names and the losses of their boxes.

    Args:
        logits: logits of all captions of the batch at all patches, (n, patches, captions).
        boxes: centres, widths and heights, (n, patches, 4).
        batch: the scenes. A caption may be true of several objects, and of objects of several images.

    Returns:
        The loss per object, a scalar.
    """
    high, low = focal_terms(logits)
    total = low.sum()
    true = batch.true.float()
    for image in range(len(logits)):
        objects = (batch.image_of == image).nonzero()[:, 0]
        # What it costs to let a patch stand for an object and not for the background.
        gain = (high[image] - low[image]) @ true[objects].T
        distance = torch.cdist(boxes[image], batch.boxes[objects], p=1)
        corners = center_to_corners_format(boxes[image]), center_to_corners_format(batch.boxes[objects])
        apart = 1 - generalized_box_iou(*corners)
        mean_gain = gain / true[objects].sum(dim=1)
        matched = match(2 * mean_gain + 5 * distance + 2 * apart)
        total = total + (gain + 5 * distance + 2 * apart)[matched].sum()
    return total / len(batch.boxes)


def detect(args: OwlViTPretrainArguments, model: OwlViTForObjectDetection, batch: SceneBatch) -> torch.Tensor:
    """The loss of a batch of `SceneBatches`; all captions of the batch are queries for each of its images."""
    with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
        with torch.no_grad():
            queries = model.owlvit.get_text_features(**batch.captions).pooler_output
        grid, _ = model.image_embedder(batch.pixel_values)
        patches = grid.flatten(1, 2)
        logits, _ = model.class_predictor(patches, queries.expand(len(patches), -1, -1))
        boxes = model.box_predictor(patches, grid)
    return detection_loss(logits.float(), boxes.float(), batch)


def main(args: OwlViTPretrainArguments) -> None:
    """Make a checkpoint."""
    set_seed(args.seed)
    processor = build_processor()
    model = build_model()
    train(args, model, SceneBatches(args, processor), partial(detect, args, model))
    save(model.eval(), processor, args.output)


if __name__ == "__main__":
    main(HfArgumentParser(DataClassType(OwlViTPretrainArguments)).parse_args_into_dataclasses()[0])
