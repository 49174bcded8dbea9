"""Prompted models as ONNX graphs, which run without torch, transformers or PEFT.

The graphs are made by `torch.export`, in float32 and opset [`OPSET`]. Learned tokens are constants in them; images,
class texts and the lengths of texts may be as many as one likes.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from torch import nn
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from ..extras import check_installed
from ..files import written_whole
from ..tuners import CLIPPromptConfig, ViTPromptConfig
from ..tuners.clip_prompt import CLIPPromptModel
from ..tuners.text_tower import find_text_tower, kind_of, max_positions
from .refusals import check_classifies


OPSET = 20
"""The version of ONNX's operators that graphs are written in."""

TOLERANCE = 1e-4
"""How far onnxruntime's answer may be from torch's; of numbers above 1, relative to them."""

LARGEST_FILE = 2**31 - 2**24
"""More bytes of weights than this, less than protobuf's 2 GiB, are written beside the graph, as `NAME.onnx.data`."""


@dataclass(frozen=True)
class Graph:
    """A graph to be written.

    Args:
        name: The file's name, without its end.
        module: What is exported.
        inputs: What it is traced with, by name.
        others: Inputs of other sizes, on which onnxruntime has to answer as torch does.
        sizes: For each input the axes that may have any size, and how the sizes are called.
        output: The output's name.
        output_sizes: As `sizes`, of the output.
    """

    name: str
    module: nn.Module
    inputs: dict[str, torch.Tensor]
    others: dict[str, torch.Tensor]
    sizes: dict[str, dict[int, str]]
    output: str


def write_onnx_classifier(model: PeftModel, folder: str | Path) -> Path:
    """Write a whole classifier as `classifier.onnx`.

    Of a CLIP it takes `pixel_values` (images × 3 × height × width) and `input_ids` (classes × length), the texts of
    any classes as the tokenizer pads them, and returns `logits` (images × classes). Of a prompt with the name in front
    or in the middle it also takes `name_ends` (classes): in each text the number of tokens up to the name's last. Of a
    vision transformer it takes `pixel_values` alone. The file's metadata have `class_names`, `template` and, as JSON,
    the `input_ids` and `name_ends` of the adapter's own classes.

    A graph does not check its inputs: texts that are too long are cut.

    Args:
        model: A prompted model in float32, whose classes are set. It is put into evaluation mode.
        folder: The folder to write to, which is made.

    Returns:
        The file.

    Raises:
        ValueError: The extra `onnx` is not installed; a model that does not classify images, has no classes, is not in
            float32, or takes images of no one size; onnxruntime does not reproduce the logits.
    """
    check_exportable(model)
    graph = graph_of_head(model) if isinstance(model.active_peft_config, ViTPromptConfig) else graph_of_texts(model)
    return write_graphs(model, [graph], folder)[0]


def write_onnx_towers(model: PeftModel, folder: str | Path) -> tuple[Path, Path]:
    """Write the prompted towers of a CLIP as `text.onnx` and `image.onnx`, for servers that encode classes once.

    `text.onnx` takes `input_ids` (and `name_ends`) as [`write_onnx_classifier`] says, and returns `text_embeds`;
    `image.onnx` takes `pixel_values` and returns `image_embeds`. Both have length 1. Images are compared with classes
    by `logits = logit_scale · image_embeds @ text_embeds.T + logit_bias`; the two numbers are in the files' metadata.

    Args:
        model: As for `write_onnx_classifier`.
        folder: As for `write_onnx_classifier`.

    Returns:
        The files, of texts and of images.

    Raises:
        ValueError: As `write_onnx_classifier`; a vision transformer, or a context that depends on the image.
    """
    check_exportable(model)
    config = model.active_peft_config
    if not isinstance(config, CLIPPromptConfig) or config.conditional:
        what = "reads no texts" if isinstance(config, ViTPromptConfig) else "reads texts for every image (conditional)"
        raise ValueError(f"The adapter {what}, so that it has no text tower of its own; use write_onnx_classifier.")
    whole, tuner = graph_of_texts(model), cast(CLIPPromptModel, model.base_model)
    of_texts = [name for name in whole.inputs if name != "pixel_values"]
    parts = [
        part_of(whole, "text", TextTower(tuner), of_texts, "text_embeds"),
        part_of(whole, "image", ImageTower(tuner), ["pixel_values"], "image_embeds"),
    ]
    text, image = write_graphs(model, parts, folder)
    return text, image


def check_exportable(model: PeftModel) -> None:
    """Check that a model can be written as ONNX, and that what it takes is installed.

    Raises:
        ValueError: It cannot.
    """
    check_installed("Writing ONNX", {"onnx": ("onnx", "onnxscript", "onnxruntime")})
    check_classifies(model)
    if (dtype := model.dtype) != torch.float32:
        raise ValueError(f"The model is in {dtype}, and ONNX graphs are written in float32; call model.float() first.")


class TextClassifier(nn.Module):
    """A prompted CLIP: images and the token ids of classes in, logits out."""

    def __init__(self, tuner: CLIPPromptModel) -> None:
        super().__init__()
        self.tuner = tuner

    def images(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return images × width, of length 1."""
        comparison = self.tuner.comparison
        return comparison.prepare(comparison.encode_images(pixel_values=pixel_values))

    def texts(
        self, input_ids: torch.Tensor, name_ends: torch.Tensor | None, image_embeds: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return classes × width, of length 1; of images' contexts images × classes × width."""
        return normalize(self.tuner.encode_token_ids(input_ids, None, image_embeds, name_ends), dim=-1)

    def forward(
        self, pixel_values: torch.Tensor, input_ids: torch.Tensor, name_ends: torch.Tensor | None = None
    ) -> torch.Tensor:
        image_embeds = self.images(pixel_values)
        conditional = self.tuner.active_config.conditional
        texts = self.texts(input_ids, name_ends, image_embeds if conditional else None)
        return self.tuner.compare(image_embeds, texts)


class TextTower(TextClassifier):
    """A prompted CLIP's text tower."""

    def forward(self, input_ids: torch.Tensor, name_ends: torch.Tensor | None = None) -> torch.Tensor:  # type: ignore[override]
        return self.texts(input_ids, name_ends)


class ImageTower(TextClassifier):
    """A prompted CLIP's image tower."""

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.images(pixel_values)


class HeadClassifier(nn.Module):
    """A prompted vision transformer: images in, logits out."""

    def __init__(self, model: PeftModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=pixel_values).logits


def graph_of_head(model: PeftModel) -> Graph:
    """Make the graph of a vision transformer's classifier."""
    pixels, other_pixels = example_images(model)
    sizes = {"pixel_values": {0: "images"}}
    inputs, others = {"pixel_values": pixels}, {"pixel_values": other_pixels}
    return Graph("classifier", HeadClassifier(model), inputs, others, sizes, "logits")


def graph_of_texts(model: PeftModel) -> Graph:
    """Make the graph of a CLIP's classifier.

    Raises:
        ValueError: No classes are set.
    """
    tuner = cast(CLIPPromptModel, model.base_model)
    config, found = tuner.active_config, find_text_tower(tuner.model)
    assert found is not None
    tower, kind = found[1], kind_of(found[1])
    if config.class_token_ids is None:
        raise ValueError("The adapter has no classes to export; call model.set_classes(names, tokenizer) first.")
    ids = padded(config.class_token_ids)
    more = torch.cat([ids.flip(0), ids[:1]])
    ends = torch.tensor(config.class_name_ends) if config.class_name_ends else kind.end(ids, tower.config)
    more_ends = torch.cat([ends.flip(0), ends[:1]])
    sizes = {0: "classes", 1: "length"}
    if config.class_specific:  # There is a context for each of these classes, in their order.
        more, more_ends = ids, ends
        del sizes[0]
    if kind.pools_at_end:
        if more.shape[1] + config.num_text_tokens < max_positions(tower):
            more = torch.cat([more, more[:, -1:]], dim=1)
    else:
        del sizes[1]
    pixels, other_pixels = example_images(model)
    inputs, others = {"pixel_values": pixels, "input_ids": ids}, {"pixel_values": other_pixels, "input_ids": more}
    all_sizes = {"pixel_values": {0: "images"}, "input_ids": sizes}
    if config.class_token_position != "end":
        inputs["name_ends"], others["name_ends"] = ends, more_ends
        all_sizes["name_ends"] = {0: "classes"} if 0 in sizes else {}
    inputs, others = ({name: value.to(model.device) for name, value in each.items()} for each in (inputs, others))
    return Graph("classifier", TextClassifier(tuner), inputs, others, all_sizes, "logits")


def part_of(whole: Graph, name: str, module: nn.Module, inputs: Collection[str], output: str) -> Graph:
    """Make the graph of a part of a classifier, which takes some of its inputs."""
    return Graph(
        name,
        module,
        {each: whole.inputs[each] for each in inputs},
        {each: whole.others[each] for each in inputs},
        {each: whole.sizes[each] for each in inputs},
        output,
    )


def padded(token_ids: list[list[int]]) -> torch.Tensor:
    """Return texts × length; what is padded with the end of text leaves the first end in its place."""
    return pad_sequence([torch.tensor(ids) for ids in token_ids], True, padding_value=token_ids[0][-1])


def example_images(model: PeftModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two and three images of noise, in the size that a model takes.

    Raises:
        ValueError: It takes images of no one size.
    """
    base = model.get_base_model()
    config: Any = getattr(base.config, "vision_config", base.config)
    size = getattr(config, "image_size", None)
    if size is None:
        raise ValueError(
            f"{type(base).__name__} takes patches of images of any size, whose graph is not written; use a model with "
            "one image size."
        )
    height, width = (size, size) if isinstance(size, int) else size
    noise = torch.randn(5, config.num_channels, height, width, generator=torch.Generator().manual_seed(0))
    two, three = noise.to(model.device).split([2, 3])
    return two, three


def write_graphs(model: PeftModel, graphs: list[Graph], folder: str | Path) -> list[Path]:
    """Write graphs and check them; all of them, or none."""
    metadata = metadata_of(model)
    with written_whole(folder) as unfinished:
        unfinished.mkdir()
        for graph in graphs:
            write_graph(graph, metadata, unfinished / f"{graph.name}.onnx")
    return [Path(folder, f"{graph.name}.onnx") for graph in graphs]


@torch.no_grad()
def write_graph(graph: Graph, metadata: dict[str, str], file: Path) -> None:
    """Export a graph, write it, and check that onnxruntime answers as torch does.

    Raises:
        ValueError: It does not.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter itself uses what torch has deprecated
        program = torch.onnx.export(
            graph.module.eval(),
            kwargs=graph.inputs,
            dynamic_shapes=graph.sizes,
            input_names=list(graph.inputs),
            output_names=[graph.output],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.update(metadata)
    weights = sum(each.numel() * each.element_size() for each in graph.module.state_dict().values())
    program.save(str(file), external_data=weights > LARGEST_FILE)
    import onnxruntime  # only here, so that the rest does without the extra

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for inputs in (graph.inputs, graph.others):
        expected = graph.module(**inputs).cpu()
        (found,) = session.run(None, {name: value.cpu().numpy() for name, value in inputs.items()})
        error = ((torch.from_numpy(found) - expected).abs() / expected.abs().clamp(min=1)).max()
        if not error <= TOLERANCE:
            raise ValueError(
                f"onnxruntime's {graph.output} differ from torch's by {error:.1e}, so nothing is written; report it "
                "with the versions of torch, onnxscript and onnxruntime."
            )


def metadata_of(model: PeftModel) -> dict[str, str]:
    """Return what a graph's file says of the classes and of the model."""
    config = model.active_peft_config
    metadata = {"base_model": str(config.base_model_name_or_path)}
    if not isinstance(config, CLIPPromptConfig):
        return metadata | {"class_names": json.dumps(config.class_names)}
    tuner = cast(CLIPPromptModel, model.base_model)
    bias = dict(tuner.model.named_parameters(recurse=False)).get("logit_bias")
    assert config.class_token_ids is not None
    return metadata | {
        "class_names": json.dumps(config.class_names, ensure_ascii=False),
        "template": config.class_template,
        "input_ids": json.dumps(padded(config.class_token_ids).tolist()),
        "name_ends": json.dumps(config.class_name_ends),
        "logit_scale": repr(float(tuner.model.logit_scale.exp())),
        "logit_bias": repr(0.0 if bias is None else float(bias)),
    }
