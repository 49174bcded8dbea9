"""How learned tokens come into a CLIP's towers, and what they must fit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from peft import PeftConfig
from torch import nn
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from ..adapter_file import shapes_of_saved_modules
from ..model_type import model_type_of
from ..pooled_output import PooledOutput
from ..prompt_layer import BASE
from ..quick_gelu import put_quick_gelu, restore_activations
from ..registration import PromptPeftType
from ..shared_prefix import restore_attention
from ..text_tower import TEXT_TOWERS, TextModel, find_text_tower, kind_of, max_positions
from ..vision_tower import VisionModel, find_vision_tower
from .classes import check_class_texts, tokenize_names, tokenizer_of
from .classification import NameClassifier
from .comparisons import find_comparison
from .config import CLIPPromptConfig
from .layer import PromptedEmbeddings
from .merging import check_tokenizer, merge_context, merging_problem
from .text_layer import PromptedTextEmbeddings
from .vision_layer import PromptedVisionEmbeddings


if TYPE_CHECKING:
    from transformers import CLIPModel


class CLIPPromptModel(NameClassifier):
    """Puts learned tokens into the towers of a CLIP-like model, and classifies images with it.

    `get_peft_model(clip, CLIPPromptConfig(...))` makes it; call its methods on the `PeftModel` that this returns.

    Args:
        model: A `CLIPModel` or one like it (SigLIP, SigLIP 2, CLIPSeg, OWL-ViT, OWLv2, MetaCLIP 2), one of its towers,
            or a model built on them, such as `CLIPForImageClassification` or `CLIPSegForImageSegmentation`.
        peft_config: A [`CLIPPromptConfig`].
        adapter_name: The adapter's name.

    Raises:
        ValueError: A model without the towers that the config's tokens are for; tokens that do not fit the position
            table; depths beyond the layers; a `text_init` longer than the context, or without a tokenizer to read it.

    Example:
        ```py
        >>> model = get_peft_model(clip, CLIPPromptConfig(num_text_tokens=4, text_init="a photo of a"))
        >>> model.set_classes(["abyssinian", "beagle"], tokenizer)
        >>> model(pixel_values=pixel_values, labels=labels).loss
        ```
    """

    prefix = "clip_prompt_"
    peft_type = PromptPeftType.CLIP_PROMPT
    tuner_layer_cls = PromptedEmbeddings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        put_quick_gelu(self.model)
        self._pooled_output: PooledOutput | None = None
        if self._comparison is not None:
            self._pooled_output = PooledOutput(*find_vision_tower(self.model))

    def unload(self) -> nn.Module:
        """Remove the prompts, and return the base model as it was."""
        restore_activations(self.model)
        if self._pooled_output is not None:
            self._pooled_output.remove()
        if (tower := find_text_tower(self.model)) is not None:
            restore_attention(tower[1])
        return super().unload()

    def merge_and_unload(
        self,
        progressbar: bool = False,
        safe_merge: bool = False,
        adapter_names: list[str] | None = None,
        tokenizer: PreTrainedTokenizerBase | ProcessorMixin | None = None,
    ) -> nn.Module:
        """Make the active adapter's context words of the vocabulary, and return a plain `CLIPModel`.

        To the returned model a text behind `<|context1|> … <|contextn|>` is what the text alone is to the prompted
        one, so that whoever has never heard of PEFT can save, load and ask it. Its `config.hypothesis_template` has
        these words, and is what zero-shot pipelines take. It is exact, for whatever classes, where the design is one
        context in front of all texts (CoOp). Others are refused. No prompt of CLIP can be a
        `CLIPForImageClassification`, whose head sees the mean of the patches and not the feature that CLIP compares.

        Args:
            progressbar: Ignored; there is nothing to wait for.
            safe_merge: Ignored; values that are not finite are refused when an adapter is loaded.
            adapter_names: One adapter's name in a list; by default the active one.
            tokenizer: The model's tokenizer, or the processor that holds it. It gets the words; save it beside the
                model.

        Raises:
            ValueError: A design without such words, with what to do instead; no tokenizer, or that of another model;
                several adapters.

        Example:
            ```py
            >>> merged = model.merge_and_unload(tokenizer=tokenizer)
            >>> merged.save_pretrained("pets")
            >>> tokenizer.save_pretrained("pets")
            ```
        """
        names = [self._adapter_of_config] if adapter_names is None else list(adapter_names)
        self._check_adapter_names(names)
        if len(names) != 1 or names == [BASE]:
            raise ValueError(f"One prompt can be merged, got adapter_names={names}.")
        config = self._config_of(names[0])
        if problem := merging_problem(config, self.model):
            raise ValueError(problem)
        if tokenizer is None:
            raise ValueError(
                "A context is merged as new words, which the tokenizer has to know as well; call "
                "merge_and_unload(tokenizer=tokenizer)."
            )
        layer = self._text_layer
        assert layer is not None
        check_tokenizer(cast("CLIPModel", self.model), tokenizer_of(tokenizer))
        context = layer.clip_prompt_context[names[0]].detach()
        model = cast("CLIPModel", self.unload())
        merge_context(model, context, config, tokenizer_of(tokenizer))
        return model

    def _name_of(self, tower: TextModel | VisionModel) -> str:
        return next(name for name, module in self.model.named_modules() if module is tower)

    @property
    def _classifies(self) -> bool:
        return self._comparison is not None

    def _prepare_adapter_config(self, peft_config: PeftConfig, model_config: dict) -> CLIPPromptConfig:
        """Find the towers that the tokens enter, and check that they can."""
        assert isinstance(peft_config, CLIPPromptConfig)
        comparison = find_comparison(self.model, peft_config.task)
        for field in ("class_specific", "conditional"):
            if getattr(peft_config, field) and comparison is None:
                raise ValueError(
                    f"{field} is for classifying images by texts, but {type(self.model).__name__} does not compare "
                    f"them; use a CLIPModel, or the like, or drop {field}."
                )
        if comparison is not None:
            if problem := comparison.problem(peft_config):
                raise ValueError(problem)
            peft_config.task = comparison.task
        text = self._text_tower if peft_config.num_text_tokens or peft_config.class_token_ids else None
        vision = self._vision_tower if peft_config.num_vision_tokens or peft_config.conditional else None
        self._check_origin(peft_config, text, vision)
        targets: list[TextModel | VisionModel] = []
        if text is not None and peft_config.num_text_tokens:
            targets.append(text)
            self._read_words(peft_config, text)
            _check_context(peft_config, text)
        if text is not None and peft_config.class_names and peft_config.class_token_ids is not None:
            check_class_texts(peft_config.class_names, peft_config.class_token_ids, peft_config.num_text_tokens, text)
        if vision is not None and peft_config.num_vision_tokens:
            if peft_config.vision_depth > (layers := vision.config.num_hidden_layers):
                raise ValueError(
                    f"vision_depth is {peft_config.vision_depth}, but the vision tower has {layers} layers; set "
                    f"vision_depth={layers} or less."
                )
            if not peft_config.coupled:
                targets.append(vision)
        self._check_file(peft_config, text, vision)
        names = [re.escape(f"{self._name_of(tower)}.embeddings".lstrip(".")) for tower in targets]
        peft_config.target_modules = "|".join(names)
        return peft_config

    def _check_file(self, config: CLIPPromptConfig, text: TextModel | None, vision: VisionModel | None) -> None:
        """Compare the tensors in the adapter's file with those that are about to be made.

        Raises:
            ValueError: They differ.
        """
        text_width, vision_width = (0 if tower is None else tower.config.hidden_size for tower in (text, vision))
        shapes = config.tensor_shapes(text_width, vision_width, self._feature_width if config.conditional else 0)
        expected = shapes_of_saved_modules(self.model, config.modules_to_save)
        for tower, tensors in zip((text, vision), shapes, strict=True):
            if tower is None:
                continue
            for name, shape in tensors.items():
                place = f"{self._name_of(tower)}.embeddings.{name}".lstrip(".")
                expected[f"base_model.model.{place}"] = shape
        config.check_file(expected, type(self.model).__name__)

    def _check_origin(self, config: CLIPPromptConfig, text: TextModel | None, vision: VisionModel | None) -> None:
        """Note in the config which model it is for, or check that it is for one of the same sizes.

        Raises:
            ValueError: The adapter was made for another model; both are described.
        """
        here: dict[str, str] = {}
        for tokens, tower in ((config.num_text_tokens, text), (config.num_vision_tokens, vision)):
            if tower is not None and tokens:
                sizes = tower.config
                here[self._name_of(tower) or "model"] = (
                    f"{sizes.model_type} of width {sizes.hidden_size} with {sizes.num_hidden_layers} layers"
                )
        if config.conditional:
            here["image features"] = f"of width {self._feature_width}"
        if config.base_model_sizes not in (None, here):
            raise ValueError(
                f"The adapter was made for {config.base_model_name_or_path} with {_listed(config.base_model_sizes)}, "
                f"but this {type(self.model).__name__} has {_listed(here)}. Load it onto the model it was made for, "
                "or one of the same sizes."
            )
        config.base_model_sizes = here

    def _read_words(self, config: CLIPPromptConfig, tower: TextModel) -> None:
        """Fill in the token ids of the words in the config."""
        if config.text_init is not None and config.text_init_token_ids is None:
            tokenizer = self.load_tokenizer(config, f"text_init={config.text_init!r}", "text_init_token_ids")
            config.text_init_token_ids = tokenizer(config.text_init, add_special_tokens=False)["input_ids"]
        if config.class_specific and config.class_names is not None and config.class_token_ids is None:
            tokenizer = self.load_tokenizer(config, "class_names", "class_token_ids")
            config.class_token_ids, config.class_name_ends = tokenize_names(
                config.class_names, tokenizer, config.class_template, tower
            )

    def _create_and_replace(
        self,
        peft_config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        assert isinstance(peft_config, CLIPPromptConfig)
        if model_type_of(parent) in TEXT_TOWERS:
            layer: nn.Module = self._prompt_texts(peft_config, adapter_name, target)
        else:
            layer = self._prompt_images(peft_config, adapter_name, target)
        setattr(parent, target_name, layer)

    def _prompt_texts(
        self, config: CLIPPromptConfig, adapter_name: str, embeddings: nn.Module
    ) -> PromptedTextEmbeddings:
        tower, vision_width = self._text_tower, 0
        layer = embeddings
        if not isinstance(layer, PromptedTextEmbeddings):
            layer = PromptedTextEmbeddings(embeddings, tower, kind_of(tower))
        if config.coupled:
            vision, parts = find_vision_tower(self.model)
            layer.couple_with(vision, parts)
            vision_width = vision.config.hidden_size
        layer.update_layer(adapter_name, config, self._feature_width if config.conditional else 0, vision_width)
        return layer

    def _prompt_images(
        self, config: CLIPPromptConfig, adapter_name: str, embeddings: nn.Module
    ) -> PromptedVisionEmbeddings:
        layer = embeddings
        if not isinstance(layer, PromptedVisionEmbeddings):
            layer = PromptedVisionEmbeddings(embeddings, *find_vision_tower(self.model))
        layer.update_layer(adapter_name, config)
        return layer


def _listed(sizes: dict[str, str]) -> str:
    return " and ".join(f"{name} ({size})" for name, size in sorted(sizes.items()))


def _check_context(config: CLIPPromptConfig, tower: TextModel) -> None:
    n, positions, layers = config.num_text_tokens, max_positions(tower), len(tower.encoder.layers)
    # EOS and one token of text have to fit as well, and SOS where there is one.
    least = 2 + int(kind_of(tower).starts_with_token)
    if n > positions - least:
        raise ValueError(
            f"num_text_tokens is {n}, but the text tower has {positions} positions, of which a text needs at least "
            f"{least}; the most that fits is num_text_tokens={positions - least}."
        )
    if config.text_depth > layers:
        raise ValueError(
            f"text_depth is {config.text_depth}, but the text tower has {layers} layers; set text_depth={layers} or "
            "less."
        )
    words = config.text_init_token_ids or []
    if len(words) > n:
        raise ValueError(
            f"text_init has {len(words)} tokens but num_text_tokens is {n}; shorten it or set "
            f"num_text_tokens={len(words)}."
        )
    vocabulary = tower.embeddings.token_embedding.num_embeddings
    if words and max(words) >= vocabulary:
        raise ValueError(
            f"text_init has token {max(words)}, but the model's vocabulary has {vocabulary}; use the tokenizer of the "
            "base model."
        )
