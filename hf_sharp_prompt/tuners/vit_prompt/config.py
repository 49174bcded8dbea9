from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ...hyperparameters import Registry
from ..config_fields import config_field
from ..prompt_config import PromptConfig
from ..prompt_design import CUSTOM, PromptDesign
from ..registration import PromptPeftType


POOLINGS = ("model", "cls", "cls_prompt")
HEADS = ("linear", "cosine")
INITS = ("xavier", "trunc_normal")


@dataclass
class ViTPromptConfig(PromptConfig):
    """Learned tokens in a vision transformer (VPT), and a head that classifies with them.

    For ViT, DeiT, BEiT and DINOv2 with and without registers, as the bare model or with a head on top.

    Args:
        design (`str`, defaults to `"custom"`):
            The published design, one file each in `designs/`: `"vpt_deep"`, `"vpt_shallow"`, `"rsam_pt"`, or one that
            you registered. Fields that are not passed take its values, and those that are passed override them; one
            that contradicts the design is refused. It is saved with the adapter and told by its card. `"custom"` is a
            combination of fields that claims no published name.
        num_tokens (`int`, defaults to 10):
            Number n of learned tokens in every prompted layer.
        depth (`int`, *optional*, defaults to 1):
            Number of prompted layers: 1 is VPT-shallow, whose tokens travel from the input through all layers; with
            more, fresh ones take their place before each of the first `depth` layers. None is every layer, VPT-deep.
        init (`str`, defaults to `"xavier"`):
            How the tokens are initialised. `"xavier"`: uniform in ±sqrt(6 / (3 · patch pixels + width)), as VPT does.
            `"trunc_normal"`: normal of deviation 0.02, cut at two deviations, as RSAM-PT's code does.
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
            Number of classes, where they have no names.
        modules_to_save (`list[str]`, *optional*):
            Modules of the base model that are trained and saved besides.
        base_model_sizes (`dict`, *optional*):
            `model`, `width` and `layers`: class, width and number of layers of the base model. Filled in when the
            adapter is made; a model of other sizes refuses the adapter.

    In the saved file, `P` being the tower's name in the model followed by a dot (empty for a bare model):
    `base_model.model.P` + `prompt.vit_prompt_tokens` (depth × n × width), `prompt.vit_prompt_head.weight` (classes ×
    feature width) and, with a linear head, `prompt.vit_prompt_head.bias`. `model.state_dict()` has the adapter's name
    after `vit_prompt_tokens` and `vit_prompt_head`. These names are stable.

    Raises:
        ValueError: A value outside its range, a head without classes, a pooling or class names without a head, or a
            field that is not of the `design`.

    Example:
        ```py
        >>> model = get_peft_model(vit, ViTPromptConfig.vpt_deep(class_names=["abyssinian", "beagle"]))
        >>> model(pixel_values=pixel_values, labels=labels).loss
        ```

    Reference:
        Jia et al., "Visual Prompt Tuning", ECCV 2022, https://arxiv.org/abs/2203.12119
    """

    design: str = config_field(CUSTOM, help="The published design, whose values those fields take that are not set.")
    num_tokens: int = config_field(10, low=1, help="Number of learned tokens in every prompted layer.")
    depth: int | None = config_field(
        1, low=1, none="for every layer", help="Number of prompted layers; None is every layer."
    )
    init: str = config_field(
        "xavier", choices=INITS, help="Initialisation of the tokens: 'xavier' or 'trunc_normal' (std 0.02)."
    )
    dropout: float = config_field(0.0, low=0, below=1, help="Dropout of the learned tokens.")
    pooling: str = config_field(
        "model", choices=POOLINGS, help="What the head sees: 'model' (as the model does it), 'cls' or 'cls_prompt'."
    )
    head: str | None = config_field(
        "linear",
        choices=HEADS,
        none="for the model's own",
        help="'linear', 'cosine', or None for the model's own classification.",
    )
    head_dropout: float = config_field(0.0, low=0, below=1, help="Dropout of the feature before the head.")
    scale: float = config_field(25.0, above=0, help="Scale of the cosine head's logits.")
    class_names: list[str] | None = config_field(None, help="The head's classes, by index.")
    num_labels: int | None = config_field(None, help="Number of classes, where they have no names.")
    modules_to_save: list[str] | None = config_field(
        None, help="Modules of the base model to be trained and saved besides."
    )
    base_model_sizes: dict[str, Any] | None = config_field(
        None, help="Class, width and number of layers of the base model; filled in."
    )

    designs: ClassVar[Registry[PromptDesign[ViTPromptConfig]]] = Registry("design of prompts for vision transformers")
    designs_before_recorded: ClassVar[tuple[str, ...]] = ("rsam_pt", "vpt_shallow", "vpt_deep")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PromptPeftType.VIT_PROMPT
        if self.base_model_sizes is not None and set(self.base_model_sizes) != {"model", "width", "layers"}:
            raise ValueError(
                f"base_model_sizes must have the keys model, width and layers, got {sorted(self.base_model_sizes)}."
            )
        if self.head is None:
            self._check_without_head()
        else:
            self._check_classes()

    @classmethod
    def vpt_shallow(cls, **overrides: Any) -> ViTPromptConfig:
        """VPT-shallow: `ViTPromptConfig(design="vpt_shallow", **overrides)`."""
        return cls(design="vpt_shallow", **overrides)

    @classmethod
    def vpt_deep(cls, **overrides: Any) -> ViTPromptConfig:
        """VPT-deep: `ViTPromptConfig(design="vpt_deep", **overrides)`."""
        return cls(design="vpt_deep", **overrides)

    @classmethod
    def rsam_pt(cls, **overrides: Any) -> ViTPromptConfig:
        """RSAM-PT (GNM-PT): `ViTPromptConfig(design="rsam_pt", **overrides)`."""
        return cls(design="rsam_pt", **overrides)

    def tensor_shapes(self, depth: int, width: int, feature_width: int) -> dict[str, tuple[int, ...]]:
        """By name the shape of each tensor that the tower's `prompt` gets.

        Args:
            depth: Number of prompted layers.
            width: The tower's width.
            feature_width: The width of what the head sees.
        """
        shapes: dict[str, tuple[int, ...]] = {"vit_prompt_tokens": (depth, self.num_tokens, width)}
        labels = self.num_labels or 0
        if self.head is not None:
            shapes["vit_prompt_head.weight"] = (labels, feature_width)
        if self.head == "linear":
            shapes["vit_prompt_head.bias"] = (labels,)
        return shapes

    def _check_without_head(self) -> None:
        if self.pooling != "model":
            raise ValueError(
                f"pooling={self.pooling!r} makes features for a head of the adapter, but head is None; set "
                "head='linear' or 'cosine', or leave pooling='model'."
            )
        if self.class_names is not None or self.num_labels is not None:
            raise ValueError(
                "class_names and num_labels describe the adapter's head, but head is None; set head='linear' or "
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
        if self.num_labels is not None and self.num_labels < 2:
            raise ValueError(f"Classification needs at least two classes, got num_labels={self.num_labels}.")


def _checked_names(names: Sequence[str]) -> list[str]:
    if isinstance(names, str):
        raise ValueError(f"class_names must be a list of names, got one string: {names!r}.")
    names = list(names)
    if nameless := [index for index, name in enumerate(names) if not isinstance(name, str) or not name.strip()]:
        raise ValueError(f"Class {nameless[0]} has no name ({names[nameless[0]]!r}); name it.")
    looks = [" ".join(name.split()) for name in names]
    counts = Counter(looks)
    if repeated := sorted({name for name, look in zip(names, looks, strict=True) if counts[look] > 1}):
        raise ValueError(f"class_names must differ, but these stand more than once: {repeated}.")
    return names
