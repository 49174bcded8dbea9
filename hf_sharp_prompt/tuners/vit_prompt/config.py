from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..prompt_config import PromptConfig
from ..registration import PromptPeftType


POOLINGS = ("model", "cls", "cls_prompt")
HEADS = ("linear", "cosine")


@dataclass
class ViTPromptConfig(PromptConfig):
    """Learned tokens in a vision transformer (VPT), and a head that classifies with it.

    For ViT, DeiT, BEiT and DINOv2 with and without registers, as the bare model or with a head on top.

    Args:
        num_tokens (`int`, defaults to 10):
            Number n of learned tokens in every prompted layer.
        depth (`int`, *optional*, defaults to 1):
            Number of prompted layers: 1 is VPT-shallow, whose tokens travel from the input through all layers; with
            more, fresh ones take their place before each of the first `depth` layers. None is every layer, VPT-deep.
        dropout (`float`, defaults to 0):
            Probability of dropping an entry of the learned tokens, drawn for every image.
        pooling (`str`, defaults to `"model"`):
            What the head sees of an image. `"model"`: what the model's own `ForImageClassification` sees, which is CLS
            for ViT and DeiT, CLS and the mean of the patches for DINOv2, and what its pooler gives for BEiT. `"cls"`:
            CLS after the final norm. `"cls_prompt"`: (CLS + mean of the learned tokens' outputs of the last layer) / 2
            (GNM-PT; as in its code CLS has passed the final norm, and the outputs have not).
        head (`str`, *optional*, defaults to `"linear"`):
            `"linear"`, or `"cosine"`: logits = `scale` · cos(feature, class weight). Trained and saved with the
            tokens. None leaves classification to the model's own head, which stays frozen unless
            `modules_to_save=["classifier"]` has it trained and saved too.
        head_dropout (`float`, defaults to 0):
            Probability of dropping an entry of the feature before the head.
        scale (`float`, defaults to 25):
            Scale s of the cosine head; logits / s are the cosines.
        class_names (`list[str]`, *optional*):
            The classes of the head, by index; saved with the adapter.
        num_labels (`int`, *optional*):
            Their number, where they have no names.
        modules_to_save (`list[str]`, *optional*):
            Modules of the base model to be trained and saved besides.
        made_for (`dict`, *optional*):
            Class, width and number of layers of the model that the adapter is for. Filled in when it is made.

    In the saved file, `P` being the tower's name in the model followed by a dot (empty for a bare model):
    `base_model.model.P` + `prompt.vit_prompt_tokens` (depth × n × width), `prompt.vit_prompt_head.weight` (classes ×
    feature width) and, with a linear head, `prompt.vit_prompt_head.bias`. `model.state_dict()` has the adapter's name
    after `vit_prompt_tokens` and `vit_prompt_head`. These names are stable.

    Raises:
        ValueError: A value outside its range, a head without classes, or a pooling or class names without a head.

    Example:
        ```py
        >>> model = get_peft_model(vit, ViTPromptConfig.vpt_deep(class_names=["abyssinian", "beagle"]))
        >>> model(pixel_values=pixel_values, labels=labels).loss
        ```

    Reference:
        Jia et al., "Visual Prompt Tuning", ECCV 2022, https://arxiv.org/abs/2203.12119
    """

    num_tokens: int = field(default=10, metadata={"help": "Number of learned tokens in every prompted layer."})
    depth: int | None = field(default=1, metadata={"help": "Number of prompted layers; None is every layer."})
    dropout: float = field(default=0.0, metadata={"help": "Dropout of the learned tokens."})
    pooling: str = field(
        default="model",
        metadata={"help": "What the head sees: 'model' (as the model does it), 'cls' or 'cls_prompt'."},
    )
    head: str | None = field(
        default="linear", metadata={"help": "'linear', 'cosine', or None for the model's own classification."}
    )
    head_dropout: float = field(default=0.0, metadata={"help": "Dropout of the feature before the head."})
    scale: float = field(default=25.0, metadata={"help": "Scale of the cosine head's logits."})
    class_names: list[str] | None = field(default=None, metadata={"help": "The head's classes, by index."})
    num_labels: int | None = field(default=None, metadata={"help": "Number of classes, where they have no names."})
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Modules of the base model to be trained and saved besides."}
    )
    made_for: dict[str, Any] | None = field(
        default=None, metadata={"help": "The model that the adapter is for; filled in when it is made."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PromptPeftType.VIT_PROMPT
        _check_positive_integer("num_tokens", self.num_tokens)
        if self.depth is not None:
            _check_positive_integer("depth", self.depth, "or None for every layer")
        self._check_types()
        for name in ("dropout", "head_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)!r}.")
        if not self.scale > 0:
            raise ValueError(f"scale must be positive, got {self.scale!r}.")
        if self.made_for is not None and set(self.made_for) != {"model", "width", "layers"}:
            raise ValueError(f"made_for must have the keys model, width and layers, got {sorted(self.made_for)}.")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(map(repr, POOLINGS))}; got {self.pooling!r}.")
        if self.head is None:
            self._check_without_head()
        elif self.head not in HEADS:
            raise ValueError(
                f"head must be one of {', '.join(map(repr, HEADS))}, or None for the model's own; got {self.head!r}."
            )
        else:
            self._check_classes()

    @classmethod
    def vpt_shallow(cls, **overrides: Any) -> ViTPromptConfig:
        """VPT-shallow: 50 tokens at the input and a linear head; overridden by keyword arguments."""
        return cls(**{"num_tokens": 50, "depth": 1} | overrides)

    @classmethod
    def vpt_deep(cls, **overrides: Any) -> ViTPromptConfig:
        """VPT-deep: 50 tokens in every layer and a linear head; overridden by keyword arguments."""
        return cls(**{"num_tokens": 50, "depth": None} | overrides)

    @classmethod
    def rsam_pt(cls, **overrides: Any) -> ViTPromptConfig:
        """RSAM-PT (GNM-PT): 10 tokens in every layer, CLS mixed with their outputs, a cosine head of scale 25.

        The dropout of 0.1 before the head is its released code's. Overridden by keyword arguments.

        Reference:
            Li et al., "Improving Visual Prompt Tuning by Gaussian Neighborhood Minimization for Long-Tailed Visual
            Recognition", NeurIPS 2024, https://arxiv.org/abs/2410.21042
        """
        setting = {
            "num_tokens": 10,
            "depth": None,
            "pooling": "cls_prompt",
            "head": "cosine",
            "head_dropout": 0.1,
            "scale": 25.0,
        }
        return cls(**setting | overrides)

    def tensor_shapes(self, depth: int, width: int, feature_width: int) -> dict[str, tuple[int, ...]]:
        """By name the shape of each tensor that the tower's `prompt` gets.

        Args:
            depth: Number of prompted layers.
            width: The tower's width.
            feature_width: The width of what the head sees.
        """
        shapes: dict[str, tuple[int, ...]] = {"vit_prompt_tokens": (depth, self.num_tokens, width)}
        if self.head is not None:
            shapes["vit_prompt_head.weight"] = (self.num_labels, feature_width)
        if self.head == "linear":
            shapes["vit_prompt_head.bias"] = (self.num_labels,)
        return shapes

    def _check_without_head(self) -> None:
        if self.pooling != "model":
            raise ValueError(
                f"pooling={self.pooling!r} makes features for a head of the adapter, but head is None; set "
                "head='linear' or 'cosine', or leave pooling='model'."
            )
        if self.class_names is not None or self.num_labels is not None:
            raise ValueError(
                "class_names and num_labels are of the adapter's head, but head is None; set head='linear' or "
                "'cosine', or leave them out."
            )

    def _check_classes(self) -> None:
        if self.class_names is None and self.num_labels is None:
            raise ValueError(
                f"head={self.head!r} needs classes: give class_names, or num_labels where they have no names; or set "
                "head=None to use the model's own."
            )
        if self.class_names is not None:
            self.class_names = _checked_names(self.class_names)
            if self.num_labels not in (None, len(self.class_names)):
                raise ValueError(
                    f"num_labels is {self.num_labels}, but there are {len(self.class_names)} class_names; leave "
                    "num_labels out."
                )
            self.num_labels = len(self.class_names)
        _check_positive_integer("num_labels", self.num_labels)
        if self.num_labels < 2:
            raise ValueError(f"Classification needs at least two classes, got num_labels={self.num_labels}.")


def _check_positive_integer(name: str, value: Any, otherwise: str = "") -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{' '.join([name, 'must be a positive integer', otherwise]).strip()}, got {value!r}.")


def _checked_names(names: Sequence[str]) -> list[str]:
    if isinstance(names, str):
        raise ValueError(f"class_names must be a list of names, got one string: {names!r}.")
    names = list(names)
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"class_names must differ, but these stand more than once: {repeated}.")
    return names
