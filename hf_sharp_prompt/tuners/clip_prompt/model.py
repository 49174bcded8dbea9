from __future__ import annotations

import copy
import re

import torch
from peft import PeftConfig
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase, ProcessorMixin

from ..adapter_file import check_state_dict, shapes_of_saved_modules
from ..call import asked
from ..prompt_model import PromptModel
from ..registration import PromptPeftType
from ..shared_prefix import restore_attention
from ..text_tower import TEXT_TOWERS, find_text_tower, max_positions
from ..vision_tower import find_vision_tower
from .classes import check_class_names, check_class_texts, tokenize_names
from .classification import CLASSES, NameClassifier
from .config import CLIPPromptConfig
from .interpret import nearest_tokens
from .layer import PromptedEmbeddings, PromptedTextEmbeddings, PromptedVisionEmbeddings


class CLIPPromptModel(NameClassifier, PromptModel):
    """Puts learned tokens into the towers of a CLIP-like model, and classifies images with it.

    Made by `get_peft_model(clip, CLIPPromptConfig(...))`; its methods are called on the `PeftModel` that returns.

    Args:
        model: A `CLIPModel` or one like it (SigLIP, SigLIP 2, CLIPSeg, OWL-ViT, OWLv2, MetaCLIP 2), one of its towers,
            or a model built on them, such as `CLIPForImageClassification`. (`CLIPSegForImageSegmentation` runs its
            CLIPSeg without a graph: it uses prompts, and trains those of texts only through `conditional_embeddings`.)
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

    @property
    def active_config(self) -> CLIPPromptConfig:
        """The config of the adapter that answers this call, with the classes of this call (see `using_classes`).

        Without prompts it is that of the active adapter.

        Raises:
            ValueError: No adapter is active, the last one having been deleted.
        """
        name = self._adapter_of_config
        config, classes = self.peft_config[name], asked(self, CLASSES) or {}
        if name in classes:
            config = copy.copy(config)
            vars(config).update(classes[name])
        return config

    @property
    def _adapter_of_config(self) -> str:
        name = self.adapter or next(iter(self.active_adapters), None)
        if name is None:
            raise ValueError("The model has no prompt adapter left; add one with add_adapter or load_adapter.")
        return name

    def load_tokenizer(self, config: CLIPPromptConfig, what: str, otherwise: str) -> PreTrainedTokenizerBase:
        """The base model's tokenizer, or the one that the config names.

        Args:
            config: An adapter's config.
            what: What needs it, for the error.
            otherwise: What else could be given, for the error.

        Raises:
            ValueError: Nothing says where to load it from, or there is none.
        """
        source = config.tokenizer_name_or_path or getattr(self.model, "name_or_path", None)
        if not source:
            raise ValueError(
                f"{what} needs a tokenizer, but the base model was not loaded by name; set tokenizer_name_or_path to "
                f"its checkpoint, or give {otherwise}."
            )
        try:
            return AutoTokenizer.from_pretrained(source)
        except OSError as error:
            raise ValueError(
                f"{what} needs a tokenizer, and none can be loaded from {source} ({error}); set "
                f"tokenizer_name_or_path to a checkpoint that has one, or give {otherwise}."
            ) from error

    def interpret_prompts(
        self, tokenizer: PreTrainedTokenizerBase | ProcessorMixin, count: int = 3
    ) -> list[list[tuple[str, float]]] | list[list[list[tuple[str, float]]]]:
        """What the active adapter's context says: per context vector the nearest tokens of the vocabulary.

        Args:
            tokenizer: The base model's tokenizer, or the processor that holds it.
            count: How many tokens per vector.

        Returns:
            For each context vector at the input a list of `(token, Euclidean distance)`, nearest first; for
            class-specific contexts such a list for each class. (Deeper layers' tokens are no word embeddings.)

        Raises:
            ValueError: The adapter has no context tokens.
        """
        if not self.active_config.num_text_tokens:
            raise ValueError("The adapter has no context tokens to interpret, only vision tokens.")
        layer = self._text_layer
        context = layer.clip_prompt_context[self.active_adapters[0]].detach()
        tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
        # Looked up rather than taken, since it may be quantised.
        words = torch.arange(layer.token_embedding.num_embeddings, device=layer.token_embedding.weight.device)
        arguments = layer.token_embedding(words), tokenizer, count
        if context.dim() == 2:
            return nearest_tokens(context, *arguments)
        return [nearest_tokens(of_class, *arguments) for of_class in context]

    def unload(self) -> nn.Module:
        """Take the prompts out and return the base model as it was."""
        if (tower := find_text_tower(self.model)) is not None:
            restore_attention(tower[1])
        return super().unload()

    @property
    def _text_tower(self) -> nn.Module:
        found = find_text_tower(self.model)
        if found is None:
            raise ValueError(
                f"{type(self.model).__name__} has no text tower of a type that is known: "
                f"{', '.join(sorted(TEXT_TOWERS))}. Set num_text_tokens=0 to prompt its vision tower only; another "
                "type is made known by an entry in hf_sharp_prompt.tuners.text_tower.TEXT_TOWERS."
            )
        return found[1]

    @property
    def _vision_tower(self) -> nn.Module:
        if self.model.config.model_type in TEXT_TOWERS:
            raise ValueError(
                f"{type(self.model).__name__} sees no images, so that vision tokens have no place in it; set "
                "num_vision_tokens=0 or use the model that it is a tower of."
            )
        return find_vision_tower(self.model)[0]

    def _name_of(self, tower: nn.Module) -> str:
        return next(name for name, module in self.model.named_modules() if module is tower)

    @property
    def _text_layer(self) -> PromptedTextEmbeddings | None:
        """The text tower's tuner layer, if an adapter has context tokens."""
        embeddings = self._text_tower.embeddings
        return embeddings if isinstance(embeddings, PromptedTextEmbeddings) else None

    @property
    def _classifies(self) -> bool:
        return self._compares

    def _prepare_adapter_config(self, peft_config: CLIPPromptConfig, model_config: dict) -> CLIPPromptConfig:
        """Find the towers that the tokens enter, and check that they can."""
        for field in ("class_specific", "conditional"):
            if getattr(peft_config, field) and not self._compares:
                raise ValueError(
                    f"{field} is for classifying images by texts, but {type(self.model).__name__} does not compare "
                    f"them; use a CLIPModel, or the like, or drop {field}."
                )
        text = self._text_tower if peft_config.num_text_tokens or peft_config.class_token_ids else None
        vision = self._vision_tower if peft_config.num_vision_tokens or peft_config.conditional else None
        self._check_origin(peft_config, text, vision)
        targets = []
        if peft_config.num_text_tokens:
            targets.append(text)
            self._read_words(peft_config, text)
            _check_context(peft_config, text)
        if peft_config.class_token_ids is not None:
            check_class_texts(peft_config.class_names, peft_config.class_token_ids, peft_config.num_text_tokens, text)
        if peft_config.num_vision_tokens:
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

    def _check_file(self, config: CLIPPromptConfig, text: nn.Module | None, vision: nn.Module | None) -> None:
        """Compare the tensors in the adapter's file with those that are about to be made.

        Raises:
            ValueError: They differ.
        """
        widths = (0 if tower is None else tower.config.hidden_size for tower in (text, vision))
        shapes = config.tensor_shapes(*widths, self._feature_width if config.conditional else 0)
        expected = shapes_of_saved_modules(self.model, config.modules_to_save)
        for tower, of_tower in zip((text, vision), shapes, strict=True):
            for name, shape in of_tower.items():
                place = f"{self._name_of(tower)}.embeddings.{name}".lstrip(".")
                expected[f"base_model.model.{place}"] = shape
        config.check_file(expected, type(self.model).__name__)

    def _check_origin(self, config: CLIPPromptConfig, text: nn.Module | None, vision: nn.Module | None) -> None:
        """Note in the config what it is for, or check that it was made for the like.

        Raises:
            ValueError: The adapter was made for another model; both are described.
        """
        here = {}
        for tokens, tower in ((config.num_text_tokens, text), (config.num_vision_tokens, vision)):
            if tokens:
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

    def _read_words(self, config: CLIPPromptConfig, tower: nn.Module) -> None:
        """Fill in the token ids of what the config gives as words."""
        if config.text_init is not None and config.text_init_token_ids is None:
            tokenizer = self.load_tokenizer(config, f"text_init={config.text_init!r}", "text_init_token_ids")
            config.text_init_token_ids = tokenizer(config.text_init, add_special_tokens=False)["input_ids"]
        if config.class_specific and config.class_token_ids is None:
            tokenizer = self.load_tokenizer(config, "class_names", "class_token_ids")
            check_class_names(config.class_names)
            config.class_token_ids, config.class_name_ends = tokenize_names(
                config.class_names, tokenizer, config.class_template, tower
            )

    def _create_and_replace(
        self,
        peft_config: CLIPPromptConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
    ) -> None:
        if parent.config.model_type in TEXT_TOWERS:
            layer = self._prompt_texts(peft_config, adapter_name, target, parent)
        else:
            layer = target
            if not isinstance(target, PromptedVisionEmbeddings):
                layer = PromptedVisionEmbeddings(target, *find_vision_tower(self.model))
            layer.update_layer(adapter_name, peft_config)
        self._replace_module(parent, target_name, layer, target)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        # PEFT's own version also hands on `weight` and `bias`, which a tower's embeddings do not have.
        setattr(parent, child_name, new_module)

    def _prompt_texts(
        self, config: CLIPPromptConfig, adapter_name: str, target: nn.Module, tower: nn.Module
    ) -> PromptedTextEmbeddings:
        layer, vision_width = target, None
        if not isinstance(target, PromptedTextEmbeddings):
            layer = PromptedTextEmbeddings(target, tower, TEXT_TOWERS[tower.config.model_type])
        if config.coupled:
            vision, parts = find_vision_tower(self.model)
            layer.couple_with(vision, parts)
            vision_width = vision.config.hidden_size
        layer.update_layer(adapter_name, config, self._feature_width if config.conditional else None, vision_width)
        return layer

    @property
    def _feature_width(self) -> int:
        """The width of `get_image_features`."""
        if hasattr(self.model, "visual_projection"):
            return self.model.visual_projection.out_features
        return find_vision_tower(self.model)[0].config.hidden_size

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: PeftConfig, adapter_name: str, state_dict: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        state_dict = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        check_state_dict(
            model, adapter_name, state_dict, lambda key: cls.prefix in key and cls._is_of_adapter(key, adapter_name)
        )
        return state_dict

    @classmethod
    def _is_of_adapter(cls, key: str, adapter_name: str) -> bool:
        return cls._remove_adapter_name_from_key(key, adapter_name) != key

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        # PEFT's own looks for the name in the last places only; modules in modules have more behind it.
        before, prefix, after = key.rpartition(cls.prefix)
        part, *names = after.split(".")
        return before + prefix + ".".join([part, *(names[1:] if names[:1] == [adapter_name] else names)])


def _listed(sizes: dict[str, str]) -> str:
    return " and ".join(f"{name} ({size})" for name, size in sorted(sizes.items()))


def _check_context(config: CLIPPromptConfig, tower: nn.Module) -> None:
    n, positions, layers = config.num_text_tokens, max_positions(tower), len(tower.encoder.layers)
    # EOS and one token of text have to fit as well, and SOS where there is one.
    least = 2 + int(TEXT_TOWERS[tower.config.model_type].starts_with_token)
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
