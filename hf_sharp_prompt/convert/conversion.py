"""From a checkpoint to an adapter, and from an adapter to a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer, CLIPModel

from ..cards import History, tell_history
from ..cards.card import path_to_load
from ..cards.writing import save_card, without_cards
from ..files import written_whole
from ..tuners import CLIPPromptConfig
from ..tuners.clip_prompt.classes import check_class_names
from ..tuners.clip_prompt.designs import Place
from ..tuners.prompt_config import read_object
from ..tuners.registration import PromptPeftType
from .layout import is_in_tower, layout_of, learned_tensors, read_prompt
from .reading import read_checkpoint


WHOLE_MODEL = ("prompt_learner.", "image_encoder.", "text_encoder.")
"""How the names of tensors start in files that hold the whole model."""


def adapter_from_checkpoint(
    checkpoint: str | Path,
    adapter: str | Path,
    base_model: str | Path,
    class_names: Sequence[str] | None = None,
    class_template: str | None = None,
    class_token_position: str = "end",
) -> CLIPPromptConfig:
    """Write a released prompt as a PEFT adapter, in float32.

    Args:
        checkpoint: A `model.pth.tar-N`. Its tensors tell the design, which the adapter records.
        adapter: The adapter's directory, which is made.
        base_model: The CLIP that the prompt was trained on: a Hub id or directory. transformers has no CLIP with a
            ResNet, so prompts of these cannot be converted.
        class_names: The classes to classify into; for class-specific contexts those trained on, in their order. As in
            these repositories, underscores stand for blanks. Without names, call `set_classes` on the loaded adapter,
            with the template that its config holds.
        class_template: The text around a class name, `{}`. Defaults to the design's: `"{}."`, and for MaPLe's
            repository what follows the learned words of "a photo of a", such as `"of a {}."` for 2 tokens.
        class_token_position: Where the name stands in CoOp's context, which its file does not tell.

    Returns:
        The adapter's config.

    Raises:
        ValueError: A file that holds no prompt or more than it should, or does not fit the base model; an `adapter`
            that exists.

    Example:
        ```py
        >>> adapter_from_checkpoint("model.pth.tar-50", "pets-coop", "openai/clip-vit-base-patch16")
        >>> model = PeftModel.from_pretrained(clip, "pets-coop")
        ```
    """
    if isinstance(class_names, str):
        raise ValueError(f"class_names must be a list of names, got one string: {class_names!r}.")
    if class_template is not None and class_template.count("{}") != 1:
        raise ValueError(f"class_template must contain {{}} exactly once, for the class name; got {class_template!r}.")
    state_dict = read_checkpoint(checkpoint)
    learned = learned_tensors(state_dict)
    if scalars := sorted(name for name, tensor in learned.items() if not tensor.dim()):
        raise ValueError(f"{checkpoint} is no checkpoint of a known design: {scalars[0]} is one number.")
    names = None if class_names is None else [name.replace("_", " ") for name in class_names]
    if names is not None:
        check_class_names(names)
    is_class_specific = "ctx" in learned and learned["ctx"].dim() == 3
    if is_class_specific and names is None:
        raise ValueError(
            f"{checkpoint} has a context for each of {len(learned['ctx'])} classes, but does not tell which; give "
            "their names as class_names, in the order of training."
        )
    try:
        reading = read_prompt(
            learned, any(name.startswith(WHOLE_MODEL) for name in state_dict), names if is_class_specific else None
        )
        told = {"class_names": names if is_class_specific else None, "class_token_position": class_token_position}
        config = CLIPPromptConfig(**{**told, **reading.fields})
    except ValueError as error:
        raise ValueError(f"{checkpoint} is no checkpoint of a known design: {error}") from error
    config.class_template = class_template or reading.design.class_template(config.num_text_tokens)
    if reading.design.problem(config) is None:  # A file may differ from all that was published.
        config.design = reading.design.name

    clip = AutoModel.from_pretrained(str(base_model), dtype=torch.float32)
    if not isinstance(clip, CLIPModel):
        raise ValueError(f"{checkpoint} was made for a CLIPModel, but {base_model} is a {type(clip).__name__}.")
    try:
        model = get_peft_model(clip, config)
        if names is not None:
            model.set_classes(names, AutoTokenizer.from_pretrained(str(base_model)), config.class_template)
    except ValueError as error:
        raise ValueError(f"{checkpoint} does not fit {base_model}: {error}") from error
    _fill(model, config, reading.places, learned, checkpoint, base_model)
    _check_same_clip(state_dict, clip, checkpoint, base_model)
    _check_is_new(adapter)
    tell_history(model, lambda: History(source=Path(checkpoint).name))
    with written_whole(adapter) as directory:
        with without_cards():
            model.save_pretrained(str(directory))
        save_card(model, directory, path_to_load(adapter))
    return config


def checkpoint_from_adapter(adapter: str | Path, checkpoint: str | Path) -> None:
    """Write an adapter as a checkpoint that the repository of its design loads for evaluation.

    It holds what was learned, in float32. It holds no optimizer to go on training with, and no embeddings of class
    names, which these repositories make again. Their configuration has to ask for the same design.

    Args:
        adapter: The adapter's directory.
        checkpoint: The file, which is made. The repositories look for `model.pth.tar-N` in a folder
            `prompt_learner`, that of MaPLe in `MultiModalPromptLearner`, of independent prompts in `VLPromptLearner`.

    Raises:
        ValueError: A directory that is no CLIP prompt's adapter, a design that no repository has, a `checkpoint` that
            exists.
    """
    if not Path(adapter, CONFIG_NAME).is_file():
        raise ValueError(f"{adapter} is not the directory of an adapter: it has no {CONFIG_NAME}.")
    kind = read_object(Path(adapter, CONFIG_NAME), str(Path(adapter, CONFIG_NAME))).get("peft_type")
    if kind != PromptPeftType.CLIP_PROMPT.value:
        raise ValueError(f"{adapter} is an adapter of type {kind}, not a prompt for CLIP.")
    config = CLIPPromptConfig.from_pretrained(adapter)
    layout = layout_of(config, adapter)
    places = layout.places(config)
    tensors = _read_tensors(places, adapter)
    prefix = "prompt_learner." if layout.is_whole_model else ""
    state_dict = {}
    for name, place in places.items():
        state_dict[name if is_in_tower(name) else prefix + name] = _at(place, tensors).float().clone()
    epoch = re.search(r"\.tar-(\d+)$", str(checkpoint))
    content = {"state_dict": state_dict, "epoch": int(epoch[1]) if epoch else 0}
    _check_is_new(checkpoint)
    with written_whole(checkpoint) as file:
        torch.save(content | {"optimizer": None, "scheduler": None, "val_result": None}, file)


def _read_tensors(places: Mapping[str, Place], adapter: str | Path) -> dict[str, torch.Tensor]:
    """Read what an adapter's file holds, by the names below the towers' embeddings.

    Args:
        places: Where the adapter has each tensor of the checkpoint.
        adapter: Its directory.

    Raises:
        ValueError: The file is missing, or does not have these places.
    """
    path = Path(adapter, SAFETENSORS_WEIGHTS_NAME)
    if not path.is_file():
        raise ValueError(f"{adapter} has no {SAFETENSORS_WEIGHTS_NAME}, which holds the prompt.")
    tensors = {_below_embeddings(key): tensor for key, tensor in load_file(path).items()}
    rows: dict[str, int] = {}
    for place in places.values():
        rows[place.name] = 0 if place.row is None else place.row + 1
    if besides := sorted(tensors.keys() - rows.keys()):
        raise ValueError(f"{adapter} has {', '.join(besides)} besides its prompt, which no checkpoint has.")
    for name, count in rows.items():
        if name not in tensors or (count and tensors[name].shape[:1] != (count,)):
            here = _sizes(tensors[name]) if name in tensors else "missing"
            expected = f", not {count} × tokens × width" if count else ""
            raise ValueError(f"{path} does not fit its own config: {name} is {here}{expected}.")
    return tensors


def _fill(
    model: PeftModel,
    config: CLIPPromptConfig,
    places: Mapping[str, Place],
    learned: Mapping[str, torch.Tensor],
    checkpoint: str | Path,
    base_model: str | Path,
) -> None:
    """Copy what was learned into the model's adapter."""
    # The values of a state dict are the model's own, not copies.
    tensors = {_below_embeddings(key): tensor for key, tensor in get_peft_model_state_dict(model).items()}
    for name, place in places.items():
        tensor = _at(place, tensors)
        if learned[name].shape != tensor.shape:
            classes = (
                f" and {len(config.class_names)} class names" if config.class_names and config.class_specific else ""
            )
            raise ValueError(
                f"{name} is {_sizes(learned[name])} in {checkpoint}, but for {base_model}{classes} it would be "
                f"{_sizes(tensor)}."
            )
        if not learned[name].is_floating_point():
            raise ValueError(f"{name} in {checkpoint} is of type {learned[name].dtype}, but prompts are real numbers.")
        if not torch.isfinite(learned[name]).all():
            raise ValueError(
                f"{name} in {checkpoint} has values that are not finite, so its training diverged or the file is "
                "damaged; use another checkpoint."
            )
        tensor.copy_(learned[name])


def _at(place: Place, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return tensors[place.name] if place.row is None else tensors[place.name][place.row]


def _check_same_clip(
    state_dict: Mapping[str, torch.Tensor], clip: CLIPModel, checkpoint: str | Path, base_model: str | Path
) -> None:
    """Check that the start token's embedding, which most files hold, is one of the base model's.

    Text towers of CLIP with ResNets and ViTs have the same shape; nothing else tells a prompt of another one.
    """
    prefix = state_dict.get("token_prefix", state_dict.get("prompt_learner.token_prefix"))
    if prefix is None:
        return
    width = clip.text_model.config.hidden_size
    if prefix.dim() != 3 or 0 in prefix.shape or prefix.shape[-1] != width or not prefix[0, 0].any():
        raise ValueError(
            f"token_prefix in {checkpoint} should be the embedding of the start token, classes × 1 × {width}, but it "
            f"is {_sizes(prefix) or 'one number'}{'' if 0 in prefix.shape or prefix.any() else ', all 0'}."
        )
    start = prefix[0, 0].float()
    distance = (clip.text_model.embeddings.token_embedding.weight - start).norm(dim=-1).min() / start.norm()
    if not distance <= 0.01:  # far more than fp16 rounds
        raise ValueError(
            f"{checkpoint} was trained on another CLIP than {base_model}: its start token's embedding is "
            f"{distance:.0%} from the nearest of that model's. Give the backbone that its training log names."
        )


def _below_embeddings(key: str) -> str:
    return key.rpartition("embeddings.")[2]


def _sizes(tensor: torch.Tensor) -> str:
    return " × ".join(map(str, tensor.shape))


def _check_is_new(target: str | Path) -> None:
    if Path(target).exists():
        raise ValueError(f"{target} exists already; remove it or choose another name.")
