from __future__ import annotations

from dataclasses import dataclass, field

from peft import PeftConfig

from ..registration import PromptPeftType


@dataclass
class CLIPPromptConfig(PeftConfig):
    """Learned context tokens at the text input of a CLIP-like model (CoOp).

    With the adapter active every text is encoded as `[SOS][V1 … Vn][text][EOS]`, whatever the text.

    Args:
        num_text_tokens (`int`, defaults to 4):
            Number n of context tokens. CoOp uses 4 with `text_init="a photo of a"` or 16 with random initialisation.
        text_init (`str`, *optional*):
            Words whose token embeddings initialise the context, e.g. `"a photo of a"`. When it has fewer tokens than
            `num_text_tokens`, it initialises the last ones, next to the text; the others are drawn from N(0, 0.02²).
            By default all are drawn.
        tokenizer_name_or_path (`str`, *optional*):
            Whose tokenizer reads `text_init`. Defaults to the base model's.
        text_init_token_ids (`list[int]`, *optional*):
            The token ids of `text_init`. Filled in when the adapter is made; give them yourself where there is no
            tokenizer to load.
        class_names (`list[str]`, *optional*), class_template (`str`), class_token_ids (`list[list[int]]`, *optional*):
            The classes the adapter classifies into. Set by `model.set_classes(names, tokenizer, template)`, saved with
            the adapter so that a loaded one classifies at once.

    Raises:
        ValueError: `num_text_tokens` is not a positive integer.

    Reference:
        Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022, https://arxiv.org/abs/2109.01134
    """

    num_text_tokens: int = field(default=4, metadata={"help": "Number of learned context tokens before the text."})
    text_init: str | None = field(
        default=None,
        metadata={"help": "Words whose embeddings initialise the context, e.g. 'a photo of a'; random by default."},
    )
    tokenizer_name_or_path: str | None = field(
        default=None, metadata={"help": "Whose tokenizer reads text_init; the base model's by default."}
    )
    text_init_token_ids: list[int] | None = field(
        default=None, metadata={"help": "The token ids of text_init; found with the tokenizer by default."}
    )
    class_names: list[str] | None = field(
        default=None, metadata={"help": "The classes to classify into; see set_classes."}
    )
    class_template: str = field(default="{}", metadata={"help": "The text around a class name; {} is the name."})
    class_token_ids: list[list[int]] | None = field(
        default=None, metadata={"help": "The token ids of the class texts; see set_classes."}
    )

    # What PEFT asks of every config; found from the base model's type, so neither the user's business nor saved.
    target_modules = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PromptPeftType.CLIP_PROMPT
        is_integer = isinstance(self.num_text_tokens, int) and not isinstance(self.num_text_tokens, bool)
        if not is_integer or self.num_text_tokens < 1:
            raise ValueError(f"num_text_tokens must be a positive integer, got {self.num_text_tokens!r}.")
