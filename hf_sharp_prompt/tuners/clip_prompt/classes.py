"""From class names to the token ids of their texts."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase, ProcessorMixin


def tokenize_classes(
    names: Sequence[str], tokenizer: PreTrainedTokenizerBase | ProcessorMixin, template: str
) -> list[list[int]]:
    """Token ids of every class's text, `[SOS] … [EOS]`, without padding.

    Args:
        names: At least two different, non-empty class names.
        tokenizer: The CLIP model's tokenizer, or the processor that holds it.
        template: The text around a name; its one `{}` is the name.

    Raises:
        ValueError: Fewer than two names, an empty or repeated one, a template without exactly one `{}`.
    """
    if isinstance(names, str):
        raise ValueError(f"names must be a list of class names, got one string: {names!r}.")
    names = list(names)
    if len(names) < 2:
        raise ValueError(f"Classification needs at least two classes, got {names}.")
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"Class {index} has no name ({name!r}); its text would be empty. Name it.")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"Class names must differ, but these stand more than once: {repeated}. Rename or merge them.")
    if template.count("{}") != 1:
        raise ValueError(f"template must contain {{}} exactly once, for the class name; got {template!r}.")
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    return tokenizer([template.replace("{}", name) for name in names])["input_ids"]
