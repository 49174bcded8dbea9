"""From class names to the token ids of their texts, and what these must satisfy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from ..text_tower import TextModel, kind_of, max_positions


_reading = Lock()
"""A fast tokenizer holds the padding of a call, so that concurrent calls would pad each other's texts."""

KEPT = 32
"""How many lists of texts are kept for each tokenizer."""
_read_before: WeakKeyDictionary[PreTrainedTokenizerBase, dict[Any, list[list[int]]]] = WeakKeyDictionary()
"""The token ids of the lists of texts that were read last: evaluations and seeds ask for the same ones."""


def check_class_names(names: Sequence[str], fewest: int = 2) -> None:
    """Check that images can be compared with these names.

    Args:
        names: The names.
        fewest: How many there must be; objects and pixels that have a background beside them can be of one class.

    Raises:
        ValueError: Too few names, an empty or repeated one.
    """
    if isinstance(names, str):
        raise ValueError(f"names must be a list of class names, got one string: {names!r}.")
    names = list(names)
    if len(names) < fewest:
        needed = "Classification needs at least two classes" if fewest > 1 else "At least one class is needed"
        raise ValueError(f"{needed}, got {names}.")
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"Class {index} has no name ({name!r}); its text would be empty. Name it.")
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ValueError(f"Class names must differ, but these stand more than once: {repeated}. Rename or merge them.")


def tokenizer_of(processor: PreTrainedTokenizerBase | ProcessorMixin) -> PreTrainedTokenizerBase:
    """Return the tokenizer that a processor holds, or the tokenizer itself."""
    return processor.tokenizer if isinstance(processor, ProcessorMixin) else processor


def as_format(template: str) -> str:
    """Return a template as `str.format` reads it, with which other braces than `{}` are doubled."""
    return "{}".join(part.replace("{", "{{").replace("}", "}}") for part in template.split("{}"))


def tokenize_names(
    names: Sequence[str],
    tokenizer: PreTrainedTokenizerBase | ProcessorMixin,
    template: str,
    tower: TextModel,
) -> tuple[list[list[int]], list[int]]:
    """Return the token ids of every name's text, and the positions behind the names in them.

    Args:
        names: The names, not empty. Their underscores become spaces in the texts, as in CoOp's code.
        tokenizer: The base model's tokenizer, or the processor that holds it.
        template: The text around a name; its one `{}` is the name.
        tower: The base model's text tower.

    Returns:
        Per name `[SOS] … [EOS]` without padding, or, for towers that read the last position, padded to their length
        as they were trained; and per name the number of tokens up to its last.

    Raises:
        ValueError: A template without exactly one `{}`.
    """
    if template.count("{}") != 1:
        raise ValueError(f"template must contain {{}} exactly once, for the class name; got {template!r}.")
    read = tokenizer_of(tokenizer)
    padding: dict[str, Any] = {}
    kind = kind_of(tower)
    if not kind.pools_at_end:
        padding = {"padding": "max_length", "max_length": max_positions(tower)}
    names = [name.replace("_", " ") for name in names]
    with _reading:
        token_ids = _read(read, [template.replace("{}", name) for name in names], **padding)
        up_to_name = _read(read, [template[: template.index("{}")] + name for name in names])
    return token_ids, [int(kind.end(torch.tensor([ids]), tower.config)) for ids in up_to_name]


def _read(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], **padding: Any) -> list[list[int]]:
    """Return the token ids of texts, padded only as these arguments say; those of the same texts are read once."""
    before = _read_before.setdefault(tokenizer, {})
    # Its length grows with added tokens.
    key = len(tokenizer), tokenizer.padding_side, tuple(texts), tuple(padding.items())
    found = before.pop(key, None)
    before[key] = _tokenize(tokenizer, texts, **padding) if found is None else found
    if len(before) > KEPT:
        del before[next(iter(before))]
    return [list(ids) for ids in before[key]]


def _tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], **padding: Any) -> list[list[int]]:
    read = tokenizer(list(texts), return_attention_mask=True, **padding)
    if padding:
        return read["input_ids"]
    # Another thread may have asked the same tokenizer for padding in between.
    return [
        [token for token, is_text in zip(*each, strict=True) if is_text]
        for each in zip(read["input_ids"], read["attention_mask"], strict=True)
    ]


def check_class_texts(
    names: Sequence[str], token_ids: Sequence[Sequence[int]], num_text_tokens: int, tower: TextModel
) -> None:
    """Check that the classes' texts can be told apart, and fit the tower together with the context.

    Raises:
        ValueError: Classes whose texts have the same tokens; a text that does not fit, as in `check_texts`.
    """
    check_texts(names, token_ids, num_text_tokens, tower)
    by_text: dict[tuple[int, ...], list[str]] = {}
    for name, ids in zip(names, token_ids, strict=True):
        by_text.setdefault(tuple(ids), []).append(name)
    if same := [group for group in by_text.values() if len(group) > 1]:
        raise ValueError(
            f"The tokenizer makes the same tokens of {' and of '.join(', '.join(map(repr, each)) for each in same)}, "
            "so that these classes could never be told apart; rename or merge them."
        )


def check_texts(
    names: Sequence[str], token_ids: Sequence[Sequence[int]], num_text_tokens: int, tower: TextModel
) -> None:
    """Check that the texts of names are of the tower's vocabulary, and fit it together with the context.

    Raises:
        ValueError: A text that is too long, or made by another model's tokenizer.
    """
    kind = kind_of(tower)
    vocabulary = tower.embeddings.token_embedding.num_embeddings
    for name, ids in zip(names, token_ids, strict=True):
        if max(ids) >= vocabulary:
            raise ValueError(
                f"The text of class {name!r} has token {max(ids)}, but the model's vocabulary has {vocabulary}; use "
                "the tokenizer of the base model, or make room for added tokens with the text model's "
                "resize_token_embeddings."
            )
        if kind.starts_with_token and ids[0] != (start := _start_token(token_ids, tower)):
            raise ValueError(
                f"The text of class {name!r} starts with token {ids[0]}, but texts of this model start with {start}; "
                "use the tokenizer of the base model."
            )
        end = int(kind.end(torch.tensor([ids]), tower.config))
        if kind.pools_at_end and end != len(ids) - 1:
            raise ValueError(
                f"The text of class {name!r} does not end in the token at which the text tower reads it; use the "
                "tokenizer of the base model. Of tokens added to it, none may have a higher id than the end of the "
                f"text where the tower reads texts at the highest id (eos_token_id={tower.config.eos_token_id})."
            )
        if (length := end + 1 + num_text_tokens) > max_positions(tower):
            raise ValueError(
                f"The text of class {name!r} and the {num_text_tokens} context tokens take {length} positions, but "
                f"the text tower has {max_positions(tower)}; shorten the name or the template."
            )


def _start_token(token_ids: Sequence[Sequence[int]], tower: TextModel) -> int:
    """Return the token that every text starts with: the config's SOS.

    Old configs of CLIP, in which EOS is wrongly 2, have a wrong SOS, too; there it is the first text's.
    """
    is_wrong = getattr(tower.config, "eos_token_id", None) == 2  # a config may lack it
    return token_ids[0][0] if is_wrong else tower.config.bos_token_id
