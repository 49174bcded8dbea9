"""How a learned context becomes words of a plain CLIP's vocabulary.

A prompt is an input, not a weight, so PEFT's way of merging has no meaning for it. One part of CLIP does hold inputs
as weights, though: the embeddings of its vocabulary. A context that stands in front of every text is therefore n more
words, and the text `<|context1|> … <|contextn|> cat` is to the plain model what `cat` is to the prompted one.

No other learned tokens have such a place. `CLIPForImageClassification` cannot hold them either: its linear head sees
the mean of the patches' last states. CLIP compares texts with the state of CLS, after a norm, a projection and a
normalisation, which is no linear function of that mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from tokenizers import AddedToken
from torch import nn
from transformers import PreTrainedTokenizerBase

from .classes import as_format
from .comparisons.comparison import is_a
from .config import CLIPPromptConfig


if TYPE_CHECKING:
    from transformers import CLIPModel


EXPORTS = "hf_sharp_prompt.export"


def context_words(number: int) -> list[str]:
    """Return the words that a merged context of this many tokens is written with."""
    return [f"<|context{index}|>" for index in range(1, number + 1)]


def merging_problem(config: CLIPPromptConfig, model: nn.Module) -> str | None:
    """Return in one sentence why a prompt cannot become words of the model's vocabulary; None if it can.

    The sentence says what to do instead.
    """
    if not is_a(model, "CLIPModel"):
        return (
            f"Only the context of a CLIPModel can become words of its vocabulary, and this is a "
            f"{type(model).__name__}; keep the adapter active, or call unload() to get the base model back."
        )
    if config.num_vision_tokens:
        return _refusal(
            "learned tokens beside an image's patches have no place in a plain model", "write_onnx_classifier"
        )
    if config.conditional:
        return _refusal("a context that depends on the image is no word", "write_onnx_classifier")
    for is_set, what in (
        (config.text_depth > 1, f"text_depth={config.text_depth} puts tokens in front of deeper layers, too"),
        (config.class_specific, "class_specific has other tokens for each class"),
        (config.class_token_position != "end", f"class_token_position={config.class_token_position!r} splits texts"),
    ):
        if is_set:
            return _refusal(f"only one context in front of all texts becomes words, and {what}", "ZeroShotHead")
    return None


def check_tokenizer(model: CLIPModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a tokenizer is the model's, and has no context yet.

    Raises:
        ValueError: It is of another model, or has the words of a merged context.
    """
    if (word := context_words(1)[0]) in tokenizer.get_vocab():
        raise ValueError(
            f"The tokenizer already has the word {word} of a merged context; load it again from the base model."
        )
    tower, end = model.text_model, tokenizer.eos_token_id
    vocabulary = tower.embeddings.token_embedding.num_embeddings
    if len(tokenizer) > vocabulary or tower.config.eos_token_id not in (2, end):
        raise ValueError(
            f"The tokenizer has {len(tokenizer)} tokens and ends texts with {end}, but the model has {vocabulary} and "
            f"reads texts at {tower.config.eos_token_id}; give the tokenizer of the base model."
        )


def merge_context(
    model: CLIPModel, context: torch.Tensor, config: CLIPPromptConfig, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Add a context to a plain CLIP as words, and to its tokenizer.

    The model's config gets `hypothesis_template`, the template that zero-shot pipelines take, and the adapter's
    classes as they stand in texts.

    Args:
        model: The model without prompts.
        context: n × width.
        config: The adapter's config.
        tokenizer: The model's tokenizer, which gets the words; see `check_tokenizer`.
    """
    words, tower = context_words(len(context)), model.text_model
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words], special_tokens=True)
    ids = tokenizer.convert_tokens_to_ids(words)
    if len(tokenizer) > tower.embeddings.token_embedding.num_embeddings:
        tower.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        weight = tower.embeddings.token_embedding.weight
        weight[ids] = context.to(weight)
    # A wrong 2 in old configs means that texts are read at their highest id, which would now be one of the words.
    tower.eos_token_id = tower.config.eos_token_id = tokenizer.eos_token_id
    model.config.text_config = tower.config
    model.config.hypothesis_template = f"{''.join(words)} {as_format(config.class_template)}"
    if config.class_names is not None:
        names = [name.replace("_", " ") for name in config.class_names]
        model.config.id2label = dict(enumerate(names))
        model.config.label2id = {name: index for index, name in enumerate(names)}


def _refusal(why: str, instead: str) -> str:
    return (
        f"Prompts are inputs, not weights, and this one cannot be merged into a plain model: {why}. Use "
        f"{EXPORTS}.{instead}, keep the adapter active, or call unload() to get the base model back."
    )
