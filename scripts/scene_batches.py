"""The scenes that the pre-training of the demo's OWL-ViT and CLIPSeg shows, with captions of their objects.

They are in the seen styles only, and their objects are of all colours, textures and shapes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from captions import Caption, describe
from pretrain_clip import true_pairs
from pretraining import OptimizationArguments
from torch.utils.data import IterableDataset
from transformers import BatchEncoding, CLIPConfig, CLIPModel, ProcessorMixin

from hf_sharp_prompt.demo.scenes import MOST_OBJECTS, SCENE_SIZE, draw_objects, find_boxes, render_objects
from hf_sharp_prompt.demo.styles import SEEN_STYLES
from hf_sharp_prompt.demo.world import Scene, Stream


@dataclass
class SceneBatch:
    """Some scenes, and one caption of each of their objects.

    Args:
        pixel_values: the images as the model takes them, (n, 3, size, size).
        visible: number of the visible object of the batch at each pixel, or a negative one, (n, size, size).
        image_of: number of the image of each object, (objects,).
        boxes: centre, width and height of what is visible of each object, as shares of the image, (objects, 4).
        captions: the tokens of one caption per object; see `texts`.
        true: which captions are true of which objects, bool, (objects, captions).
        texts: the captions.
    """

    pixel_values: torch.Tensor
    visible: torch.Tensor
    image_of: torch.Tensor
    boxes: torch.Tensor
    captions: BatchEncoding
    true: torch.Tensor
    texts: list[str]


def draw_captioned(seed: int, index: int) -> tuple[tuple[Scene, ...], list[Caption]]:
    """Draw pre-training's `index`-th scene of several objects.

    Args:
        seed: seed of the whole stream of scenes.
        index: number of the scene, from 0.

    Returns:
        The objects, in one of the seen styles, and a true caption of each.
    """
    rng = np.random.default_rng((Stream.PRETRAIN_OBJECTS, seed, index))
    count = int(rng.integers(1, MOST_OBJECTS + 1))
    objects = draw_objects(rng, tuple(SEEN_STYLES), [{}] * count)
    return objects, [describe(each, rng) for each in objects]


def make_batch(seed: int, indices: range, processor: ProcessorMixin) -> SceneBatch:
    """Render some of pre-training's scenes; for the arguments see `draw_captioned`."""
    scenes, captions = zip(*(draw_captioned(seed, index) for index in indices))
    images, visible = render_objects(scenes, [(Stream.PRETRAIN_OBJECTS_IMAGE, seed, index) for index in indices])
    counts = [len(objects) for objects in scenes]
    corners = np.concatenate([find_boxes(numbers, count) for numbers, count in zip(visible, counts)])
    first = np.cumsum([0, *counts[:-1]])
    of_objects = [caption for of_image in captions for caption in of_image]
    texts = [caption.text for caption in of_objects]
    return SceneBatch(
        processor.image_processor(list(images), return_tensors="pt")["pixel_values"],
        torch.from_numpy(np.where(visible < 0, -1, visible + first[:, None, None])),
        torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)),
        torch.from_numpy(np.hstack([corners[:, :2] + corners[:, 2:] / 2, corners[:, 2:]])).float() / SCENE_SIZE,
        processor.tokenizer(texts, padding=True, return_tensors="pt"),
        true_pairs(of_objects, [each for objects in scenes for each in objects]),
        texts,
    )


class SceneBatches(IterableDataset):
    """Batches rendered on demand; no scene comes twice."""

    def __init__(self, args: OptimizationArguments, processor: ProcessorMixin) -> None:
        self.args = args
        self.processor = processor

    def __iter__(self) -> Iterator[SceneBatch]:
        size = self.args.batch_size
        for step in range(self.args.steps):
            yield make_batch(self.args.seed, range(step * size, (step + 1) * size), self.processor)


def tower_configs(config: CLIPConfig) -> dict[str, Any]:
    """Describe the towers of a CLIP for images of the scenes' size, as the arguments of another model's config."""
    shared = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act")
    text = ("vocab_size", "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id")
    return {
        "text_config": {name: getattr(config.text_config, name) for name in (*shared, *text)},
        "vision_config": {name: getattr(config.vision_config, name) for name in (*shared, "patch_size")}
        | {"image_size": SCENE_SIZE},
        "projection_dim": config.projection_dim,
    }


def tower_weights(clip: CLIPModel) -> dict[str, torch.Tensor]:
    """Return the weights of a CLIP with its position embeddings stretched to the scenes' grid of patches."""
    weights = clip.state_dict()
    name = "vision_model.embeddings.position_embedding.weight"
    cls, patches = weights[name].split([1, len(weights[name]) - 1])
    old, new = round(len(patches) ** 0.5), SCENE_SIZE // clip.config.vision_config.patch_size
    grid = patches.T.reshape(1, -1, old, old)
    grid = torch.nn.functional.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return weights | {name: torch.cat([cls, grid.reshape(-1, new * new).T])}
