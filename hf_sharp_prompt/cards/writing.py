"""When cards are written: wherever a prompt is saved or pushed, by whatever means."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from peft import PeftModel

from ..compat.peft import replace_cards
from ..tuners.prompt_config import PromptConfig
from ..tuners.prompt_model import PromptModel
from .card import model_card, path_to_load
from .history import CARD_NAME, PICTURE_NAME, History, read_history
from .pictures import write_pictures
from .public import make_public


logger = logging.getLogger(__name__)

TELLS = "_tells_history"
"""The attribute of a model that returns what was seen of its training."""
PNG = b"\x89PNG\r\n\x1a\n"

_without_cards: ContextVar[bool] = ContextVar("_without_cards", default=False)


def write_cards_of_prompts() -> None:
    """Let `save_pretrained` and `push_to_hub` of a `PeftModel` with prompts write this package's card."""
    replace_cards(PromptModel, save_card, prepare_push)


@contextmanager
def without_cards() -> Iterator[None]:
    """Save models in the block without their cards, as in a checkpoint that only its own run reads."""
    token = _without_cards.set(True)
    try:
        yield
    finally:
        _without_cards.reset(token)


def tell_history(model: PeftModel, tell: Callable[[], History]) -> None:
    """Let a model's card say what was seen of its training.

    Args:
        model: The model.
        tell: Returns what was seen, as it is then. It should be a function rather than a bound method, because
            copying the model must not copy a Trainer.
    """
    setattr(model, TELLS, tell)


def history_of(model: PeftModel) -> History:
    """Return what was seen of a model's training: by whoever trains it now, or else as the card that it was loaded
    with tells it."""
    tell = vars(model).get(TELLS)
    return tell() if tell is not None else read_history_beside(model)


def read_history_beside(model: PeftModel) -> History:
    """Return what the card tells that is beside the active adapter's file; an empty history if there is none."""
    config: Any = model.peft_config[model.active_adapter]
    card = config.find_beside(CARD_NAME) if isinstance(config, PromptConfig) else None
    if card is None:
        return History()
    try:
        history = read_history(card.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        logger.warning(f"The new card does not say how the adapter was trained: of the old one, {error}.")
        return History()
    if history is None:
        return History()
    picture = config.find_beside(PICTURE_NAME)
    if picture is not None and (content := picture.read_bytes()).startswith(PNG):
        history.picture = content
    return history


def save_card(model: PeftModel, output_dir: str | Path, model_id: str | None = None) -> None:
    """Write the card of the active adapter into a directory, and the pictures that it shows.

    A card that was written by hand stays.

    Args:
        model: The model with the adapter.
        output_dir: The directory.
        model_id: The name under which the adapter is loaded; by default the directory's.
    """
    path = Path(output_dir, CARD_NAME)
    old = path.read_text(encoding="utf-8") if path.is_file() else ""
    if _without_cards.get() or not _is_generated(old):
        return
    history = history_of(model)
    if old and not history.license:
        license = ModelCard(old, ignore_metadata_errors=True).data.to_dict().get("license")
        history.license = license if isinstance(license, str) else None
    write_pictures(history, path.parent)
    model_card(model, history, model_id=model_id or path_to_load(output_dir)).save(path)


def prepare_push(model: PeftModel, working_dir: str | os.PathLike[str], repo_id: str) -> None:
    """Make a folder ready that `model.push_to_hub` is about to upload.

    The card in it is the repository's, or an empty one of transformers.
    """
    save_card(model, Path(working_dir), repo_id)
    make_public(Path(working_dir))


def _is_generated(card: str) -> bool:
    """Whether this package or PEFT made a card, or it has no text."""
    written = re.sub(r"\A\s*---\n.*?\n---", "", card, flags=re.DOTALL).strip()
    return not written or any(sign in card for sign in ("hf-sharp-prompt", "[More Information Needed]"))
