from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from ...hyperparameters import Registry
from ..config_fields import config_field
from ..pixel_loss import PIXEL_LOSSES
from ..prompt_config import PromptConfig
from ..prompt_design import CUSTOM, PromptDesign
from ..registration import PromptPeftType
from .classes import check_class_names


CLASS_TOKEN_POSITIONS = ("end", "middle", "front")
TEXT_INIT_RESTS = ("normal", "zeros")
FIELDS_OF_THE_CONTEXT = (
    "text_init",
    "text_depth",
    "class_token_position",
    "class_specific",
    "conditional",
    "coupled",
)
MEANINGLESS_TOGETHER = {
    ("coupled", "class_specific"): "vision tokens would be made from the context of the image's class, which is what "
    "is sought.",
    ("coupled", "conditional"): "vision tokens would be made from the feature of the image that they help to encode.",
    ("conditional", "class_specific"): "the meta-net makes one shift for the context of all classes.",
}
"""Pairs of fields that cannot both be set, and why."""


@dataclass
class CLIPPromptConfig(PromptConfig):
    """Learned tokens in the towers of a CLIP-like model: CoOp, CoCoOp, VPT, independent prompts (IVLP) and MaPLe.

    With the adapter active every text is encoded as `[SOS][V1 … Vn][text][EOS]`, whatever the text, and every image
    with m learned tokens beside its patches. The published designs, one file each in `designs/`, are combinations of
    these fields.

    Args:
        design (`str`, defaults to `"custom"`):
            The published design: `"coop"`, `"cocoop"`, `"vpt"`, `"vpt_shallow"`, `"ivlp"`, `"maple"`, or one that you
            registered. Fields that are not passed take its values, and those that are passed override them; one that
            contradicts the design, such as `coupled=False` for MaPLe, is refused. It is saved with the adapter and
            told by its card. `"custom"` is a combination of fields that claims no published name.
        task (`str`, *optional*):
            What the model is prompted for: `"image-classification"`, or another that its kind of model has. By default
            it is the first that the model has; filled in when the adapter is made. None in files of older versions
            means classification.
        pixel_loss (`str`, *optional*):
            How labels of pixels are compared with logits: `"binary"`, a sigmoid for each class, or `"multi_class"`, a
            softmax over the classes and background. Multi-class by default; dense CLIP has no other.
        num_text_tokens (`int`, defaults to 4):
            Number n of context tokens at the text input; 0 leaves texts as they are. CoOp uses 4 with
            `text_init="a photo of a"` or 16 with random initialisation.
        text_init (`str`, *optional*):
            Words whose token embeddings initialise the context, e.g. `"a photo of a"`. When it has fewer tokens than
            `num_text_tokens`, it initialises the last ones, next to the text. By default all are drawn from
            N(0, 0.02²).
        text_init_rest (`str`, defaults to `"normal"`):
            The context tokens that `text_init` does not reach: `"normal"` draws them from N(0, 0.02²), `"zeros"`
            starts them at zero (ProGrad).
        text_depth (`int`, defaults to 1):
            Number d of text layers that get context tokens. With 1 they enter at the input; with more, fresh tokens
            take their places before each of the layers 2 to d.
        class_token_position (`str`, defaults to `"end"`):
            Where the text stands: at the `"end"` of the context, in its `"middle"` (behind n // 2 tokens) or in
            `"front"` of it. What a class's template has behind the name stays behind the context.
        class_specific (`bool`, defaults to `False`):
            A context for each of `class_names` instead of one for all; other texts cannot be encoded then.
        conditional (`bool`, defaults to `False`):
            A meta-net (Linear d → d/16, ReLU, Linear → text width) adds a vector made of the image's feature to every
            context token (CoCoOp). Texts encoded without an image have the context as it is.
        num_vision_tokens (`int`, defaults to 0):
            Number m of learned tokens beside an image's patches.
        vision_depth (`int`, defaults to 1):
            Number of vision layers that get tokens, as `text_depth`.
        coupled (`bool`, defaults to `False`):
            The vision tokens are linear projections of the text tokens, layer by layer (MaPLe).
        tokenizer_name_or_path (`str`, *optional*):
            The tokenizer that reads `text_init` and `class_names`. Defaults to the base model's.
        text_init_token_ids (`list[int]`, *optional*):
            The token ids of `text_init`. Filled in when the adapter is made; set them where there is no tokenizer to
            load.
        class_names (`list[str]`, *optional*), class_template (`str`):
            The classes the adapter classifies into, and the text around a name. Set by
            `model.set_classes(names, tokenizer, template)`, saved with the adapter so that a loaded one classifies at
            once.
        class_token_ids (`list[list[int]]`, *optional*), class_name_ends (`list[int]`, *optional*):
            The classes' token ids and the positions behind their names; set and saved likewise.
        class_chunk_size (`int`, *optional*):
            How many class texts (for CoCoOp, times images) are encoded at a time, to bound memory. The gradients are
            the same; the backward pass computes each chunk's activations a second time. By default all texts are
            encoded at once if that takes no more than half of the free memory.
        base_model_sizes (`dict[str, str]`, *optional*):
            By name each part of the base model that the tokens depend on, and its sizes. Filled in when the adapter
            is made; a model of other sizes refuses the adapter.
        modules_to_save (`list[str]`, *optional*):
            Modules trained and saved besides, e.g. `["classifier"]` of a `CLIPForImageClassification`.

    The adapter's file holds these tensors, as far as the fields ask for them. Below the text tower's `embeddings`:
    `clip_prompt_context` (n × width, or classes × n × width), `clip_prompt_deep_context` (depth-1 × n × width),
    `clip_prompt_meta_net.linear{1,2}.{weight,bias}` and `clip_prompt_coupling.{0 … depth-1}.{weight,bias}`. Below the
    vision tower's `embeddings`: `clip_prompt_vision_tokens` (depth × m × width).

    Raises:
        ValueError: A field outside its range, a combination without meaning, or one that is not of the `design`; the
            message says which and why.
    """

    design: str = config_field(CUSTOM, help="The published design, whose values those fields take that are not set.")
    num_text_tokens: int = config_field(4, low=0, help="Number of learned context tokens beside the text.")
    text_init: str | None = config_field(
        None, help="Words whose embeddings initialise the context, e.g. 'a photo of a'; random by default."
    )
    text_init_rest: str = config_field(
        "normal", choices=TEXT_INIT_RESTS, help="The context tokens that text_init does not reach: normal or zeros."
    )
    text_depth: int = config_field(1, low=1, help="Number of text layers that get context tokens.")
    class_token_position: str = config_field(
        "end", choices=CLASS_TOKEN_POSITIONS, help="Where the text stands in the context: end, middle or front."
    )
    class_specific: bool = config_field(False, help="A context for each class instead of one for all.")
    conditional: bool = config_field(False, help="Shift the context by what a meta-net makes of the image (CoCoOp).")
    num_vision_tokens: int = config_field(0, low=0, help="Number of learned tokens beside the patches.")
    vision_depth: int = config_field(1, low=1, help="Number of vision layers that get tokens.")
    coupled: bool = config_field(False, help="Make the vision tokens from the text tokens by linear maps (MaPLe).")
    tokenizer_name_or_path: str | None = config_field(
        None, help="Whose tokenizer reads text_init and class_names; the base model's by default."
    )
    text_init_token_ids: list[int] | None = config_field(
        None, help="The token ids of text_init; found with the tokenizer by default."
    )
    class_names: list[str] | None = config_field(None, help="The classes to classify into; see set_classes.")
    class_template: str = config_field("{}", help="The text around a class name; {} is the name.")
    class_token_ids: list[list[int]] | None = config_field(
        None, help="The token ids of the class texts; see set_classes."
    )
    class_name_ends: list[int] | None = config_field(
        None, help="Where in its token ids each class's name ends; see set_classes."
    )
    class_chunk_size: int | None = config_field(
        None, low=1, help="How many class texts to encode at a time, to bound memory; found by default."
    )
    task: str | None = config_field(
        None, help="What the model is prompted for, such as image-classification; filled in by default."
    )
    pixel_loss: str | None = config_field(
        None, choices=PIXEL_LOSSES, help="The loss of pixels: binary or multi_class; by default the model's."
    )
    base_model_sizes: dict[str, str] | None = config_field(
        None, help="The parts of the base model that the tokens were learned for, and their sizes; filled in."
    )
    modules_to_save: list[str] | None = config_field(
        None, help="Modules that are trained and saved besides, such as a classifier."
    )

    designs: ClassVar[Registry[PromptDesign[CLIPPromptConfig]]] = Registry("design of prompts for CLIP")
    designs_before_recorded: ClassVar[tuple[str, ...]] = ("coop", "cocoop", "vpt_shallow", "vpt", "ivlp", "maple")

    @classmethod
    def coop(cls, **changes: Any) -> CLIPPromptConfig:
        """CoOp: `CLIPPromptConfig(design="coop", **changes)`."""
        return cls(design="coop", **changes)

    @classmethod
    def cocoop(cls, **changes: Any) -> CLIPPromptConfig:
        """CoCoOp: `CLIPPromptConfig(design="cocoop", **changes)`."""
        return cls(design="cocoop", **changes)

    @classmethod
    def vpt(cls, **changes: Any) -> CLIPPromptConfig:
        """VPT: `CLIPPromptConfig(design="vpt", **changes)`."""
        return cls(design="vpt", **changes)

    @classmethod
    def ivlp(cls, **changes: Any) -> CLIPPromptConfig:
        """Independent prompts in both towers: `CLIPPromptConfig(design="ivlp", **changes)`."""
        return cls(design="ivlp", **changes)

    @classmethod
    def maple(cls, **changes: Any) -> CLIPPromptConfig:
        """MaPLe: `CLIPPromptConfig(design="maple", **changes)`."""
        return cls(design="maple", **changes)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PromptPeftType.CLIP_PROMPT
        self._check_combination()
        self._check_class_fields()

    def tensor_shapes(
        self, text_width: int, vision_width: int, feature_width: int
    ) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
        """By name the shape of each tensor that the text and the vision tower's embeddings get.

        Args:
            text_width, vision_width: The widths of the towers; 0 for one that gets none.
            feature_width: The width of the image features that a meta-net reads.
        """
        text: dict[str, tuple[int, ...]] = {}
        vision: dict[str, tuple[int, ...]] = {}
        n, m = self.num_text_tokens, self.num_vision_tokens
        if n:
            classes = (len(self.class_names or ()),) if self.class_specific else ()
            text["clip_prompt_context"] = (*classes, n, text_width)
        if self.text_depth > 1:
            text["clip_prompt_deep_context"] = (self.text_depth - 1, n, text_width)
        if self.conditional:
            hidden = max(feature_width // 16, 1)
            for name, inputs, outputs in (("linear1", feature_width, hidden), ("linear2", hidden, text_width)):
                text[f"clip_prompt_meta_net.{name}.weight"] = (outputs, inputs)
                text[f"clip_prompt_meta_net.{name}.bias"] = (outputs,)
        if self.coupled:
            for layer in range(self.text_depth):
                text[f"clip_prompt_coupling.{layer}.weight"] = (vision_width, text_width)
                text[f"clip_prompt_coupling.{layer}.bias"] = (vision_width,)
        elif m:
            vision["clip_prompt_vision_tokens"] = (self.vision_depth, m, vision_width)
        return text, vision

    def _check_combination(self) -> None:
        text, vision = self.num_text_tokens, self.num_vision_tokens
        if not text and not vision:
            raise ValueError(
                "num_text_tokens and num_vision_tokens are both 0, so nothing is learned; set one of them."
            )
        defaults = {field.name: field.default for field in fields(self)}
        for name in FIELDS_OF_THE_CONTEXT:
            if not text and getattr(self, name) != defaults[name]:
                raise ValueError(f"{name} is about context tokens, but num_text_tokens is 0; set it or drop {name}.")
        if self.text_init_rest == "zeros" and self.text_init is None and not self.text_init_token_ids:
            raise ValueError(
                "text_init_rest='zeros' starts the context tokens at zero that text_init does not reach, but there is "
                "no text_init; give its words, or leave text_init_rest='normal'."
            )
        if not vision and self.vision_depth > 1:
            raise ValueError("vision_depth is about vision tokens, but num_vision_tokens is 0; set it as well.")
        if self.coupled and (text, self.text_depth) != (vision, self.vision_depth):
            raise ValueError(
                "coupled makes every vision token from a text token of the same layer, so num_vision_tokens must be "
                f"num_text_tokens, {text}, and vision_depth be text_depth, {self.text_depth}; they are {vision} and "
                f"{self.vision_depth}."
            )
        for (one, other), why in MEANINGLESS_TOGETHER.items():
            if getattr(self, one) and getattr(self, other):
                raise ValueError(f"{one} with {other} has no meaning: {why} Drop one of them.")
        if self.text_depth > 1 and self.class_token_position != "end":
            raise ValueError(
                f"text_depth={self.text_depth} needs class_token_position='end', not {self.class_token_position!r}: "
                "deeper layers' tokens take the places in front of the text, which are the same for all texts."
            )
        if self.class_specific and not self.class_names:
            raise ValueError("class_specific makes a context for each class, so class_names must be given with it.")

    def _check_class_fields(self) -> None:
        """Check that the fields about the classes are about the same ones."""
        names, texts, ends = self.class_names, self.class_token_ids, self.class_name_ends
        if names is not None:
            check_class_names(names, fewest=2 if self.task in (None, "image-classification") else 1)
            if self.class_template.count("{}") != 1:
                raise ValueError(
                    f"class_template must contain {{}} exactly once, for the class name; got {self.class_template!r}."
                )
        names = names or []
        for name, each in (("class_token_ids", texts), ("class_name_ends", ends)):
            if each is not None and len(each) != len(names):
                raise ValueError(
                    f"{name} has {len(each)} entries, but there are {len(names)} class_names; give one for each."
                )
        if ends is not None and texts is None:
            raise ValueError("class_name_ends are places in class_token_ids, which are missing; give both.")
        for index, ids in enumerate(texts or ()):
            if not ids or min(ids) < 0:
                raise ValueError(f"class_token_ids[{index}] must be token ids, 0 or more, got {ids}.")
            if ends is not None and not 0 <= ends[index] < len(ids):
                raise ValueError(
                    f"class_name_ends[{index}] is {ends[index]}, but the text of class {names[index]!r} has "
                    f"{len(ids)} tokens."
                )
        if (words := self.text_init_token_ids) and min(words) < 0:
            raise ValueError(f"text_init_token_ids must be token ids, 0 or more, got {words}.")
