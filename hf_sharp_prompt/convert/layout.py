"""Which design learned a checkpoint, and which design's files can hold an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

import torch

from ..tuners import CLIPPromptConfig
from ..tuners.clip_prompt.designs import Checkpoint, CLIPDesign, Place, Shapes


Tensors = Mapping[str, torch.Tensor]


class Reading(NamedTuple):
    """A checkpoint, read as one of a design.

    Args:
        config: The config that its tensors tell.
        places: Where the adapter has each of the design's tensors.
        design: The design.
        is_whole_model: True if the design's files hold the whole model.
    """

    config: CLIPPromptConfig
    places: Mapping[str, Place]
    design: CLIPDesign
    is_whole_model: bool


def learned_tensors(state_dict: Tensors) -> dict[str, torch.Tensor]:
    """What a checkpoint has learned, named as in the prompt learner, or from the whole model on as in the towers."""
    learned = {}
    for name, tensor in state_dict.items():
        is_of_clip = name == "logit_scale" or name.startswith(("image_encoder.", "text_encoder."))
        if not is_of_clip or is_in_tower(name):
            learned[name.removeprefix("prompt_learner.")] = tensor
    unused = ["token_prefix", "token_suffix"]  # embeddings around the context, which class names give again
    if "bias_vectors" in learned:  # KgCoOp's, which has these but no use for them
        unused += ["bias_vectors", "meta_net.linear1.weight", "meta_net.linear1.bias"]
    return {name: tensor for name, tensor in learned.items() if name not in unused}


def is_in_tower(name: str) -> bool:
    """Whether a tensor is one that a design has put into the towers."""
    return name.startswith(("image_encoder.", "text_encoder.")) and name.endswith((".VPT", ".VPT_shallow"))


def read_prompt(learned: Tensors, is_whole_model: bool, **known: Any) -> Reading:
    """Find the design whose files are like a checkpoint, and read its config.

    Args:
        learned: The learned tensors of the checkpoint.
        is_whole_model: True if it holds the whole model with them.
        known: The config's fields that the tensors do not tell.

    Raises:
        ValueError: No design has such a file; the message says how it differs from the nearest.
    """
    readings = _read_as_each_design({name: tuple(tensor.shape) for name, tensor in learned.items()}, known)

    def difference(reading: Reading) -> tuple[int, bool, int]:
        # Where several designs have the same tensors, the file's kind decides, and then the design that fixes most.
        names = reading.places.keys() ^ learned.keys()
        return len(names), reading.is_whole_model != is_whole_model, -len(reading.design.fixed)

    nearest = min(readings, key=difference)
    lacking, besides = sorted(nearest.places.keys() - learned.keys()), sorted(learned.keys() - nearest.places.keys())
    if lacking or besides:
        differences = [f"lacks {', '.join(lacking)}"] if lacking else []
        differences += [f"has {', '.join(besides)} besides"] if besides else []
        raise ValueError(f"it looks like {nearest.design.title}, but {' and '.join(differences)}.")
    if nearest.design.problem(nearest.config) is None:
        nearest.config.design = nearest.design.name
    return nearest


def _read_as_each_design(shapes: Shapes, known: Mapping[str, Any]) -> list[Reading]:
    """Read a checkpoint as one of each design that could have written it.

    Raises:
        ValueError: None could.
    """
    layouts = _layouts()
    readings, problems = [], []
    for design, layout in layouts.items():
        if layout.requires not in shapes:
            continue
        try:
            config = CLIPPromptConfig(**{**known, **layout.read_fields(shapes)})
        except ValueError as problem:
            problems.append(problem)
        else:
            readings.append(Reading(config, layout.places(config), design, layout.is_whole_model))
    if not readings and problems:
        raise problems[0]
    if not readings:
        required = " nor ".join(dict.fromkeys(layout.requires for layout in layouts.values()))
        found = ", ".join(sorted(shapes)[:8]) or "no prompt learner"
        raise ValueError(f"neither {required} is in it, but {found}.")
    return readings


def layout_of(config: CLIPPromptConfig, adapter: object) -> Checkpoint:
    """Find the layout of released files that holds an adapter: its design's, or one that holds the same tensors.

    Args:
        config: The adapter's config.
        adapter: What errors call the adapter.

    Raises:
        ValueError: No repository has files that hold it.
    """
    tensors = {name for tower in config.tensor_shapes(0, 0, 0) for name in tower}
    design, layout = min(
        (each for each in _layouts().items() if {place.name for place in each[1].places(config).values()} == tensors),
        key=lambda each: (each[0].name != config.design, each[0].problem(config) is not None),
        default=(None, None),
    )
    if design is None or layout is None:
        raise ValueError(
            f"{adapter} learns {config.get_design().learned(config)}, which no repository does together, so there is "
            "no layout to write it in."
        )
    defaults = {field.name: field.default for field in fields(config)}
    for name in layout.has_no_place_for:
        if (value := getattr(config, name)) != defaults[name]:
            raise ValueError(
                f"{adapter} has {name}={value!r}, which the repository of {design.title} does not know, so there is "
                "no layout to write it in."
            )
    return layout


def _layouts() -> dict[CLIPDesign, Checkpoint]:
    """By design the layout of its files, for the designs that have any."""
    designs = [kind() for kind in CLIPPromptConfig.designs.values() if issubclass(kind, CLIPDesign)]
    return {design: design.checkpoint for design in designs if design.checkpoint is not None}
