"""How a prompted CLIP encodes images and texts: what its towers are, and which adapter takes part."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, PreTrainedTokenizerBase, ProcessorMixin

from ..call import asked
from ..model_type import model_type_of
from ..prompt_model import PromptModel
from ..text_tower import TEXT_TOWERS, TextModel, find_text_tower
from ..vision_tower import VisionModel, find_vision_tower
from .classes import check_texts, tokenize_names, tokenizer_of
from .comparisons import Comparison, find_comparison
from .config import CLIPPromptConfig
from .interpret import nearest_tokens
from .text_layer import PromptedTextEmbeddings


CLASSES = "classes"


class PromptedEncoders(PromptModel):
    """The part of a [`CLIPPromptModel`] that encodes images and texts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._tokenizers: dict[str, PreTrainedTokenizerBase] = {}  # by the checkpoint that they were loaded from
        super().__init__(*args, **kwargs)

    @property
    def active_config(self) -> CLIPPromptConfig:
        """The config of the adapter that answers this call, with the classes of this call (see `using_classes`).

        Without prompts it is the config of the active adapter.

        Raises:
            ValueError: No adapter is left.
        """
        name = self._adapter_of_config
        config, classes = self._config_of(name), asked(self, CLASSES) or {}
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

    def _config_of(self, adapter_name: str) -> CLIPPromptConfig:
        config = self.peft_config[adapter_name]
        assert isinstance(config, CLIPPromptConfig)
        return config

    def load_tokenizer(self, config: CLIPPromptConfig, what: str, otherwise: str) -> PreTrainedTokenizerBase:
        """Load the base model's tokenizer, or the one that the config names. Later calls return the same object.

        Args:
            config: An adapter's config.
            what: What needs it; the error says so.
            otherwise: What else the user could give; the error says so.

        Raises:
            ValueError: Nothing says where to load it from, or there is none.
        """
        source = config.tokenizer_name_or_path or getattr(self.model, "name_or_path", None)
        if not source:
            raise ValueError(
                f"{what} needs a tokenizer, but the base model was not loaded by name; set tokenizer_name_or_path to "
                f"its checkpoint, or give {otherwise}."
            )
        if source in self._tokenizers:
            return self._tokenizers[source]
        try:
            return self._tokenizers.setdefault(source, AutoTokenizer.from_pretrained(source))
        except OSError as error:
            raise ValueError(
                f"{what} needs a tokenizer, and none can be loaded from {source} ({error}); set "
                f"tokenizer_name_or_path to a checkpoint that has one, or give {otherwise}."
            ) from error

    def interpret_prompts(
        self, tokenizer: PreTrainedTokenizerBase | ProcessorMixin, count: int = 3
    ) -> list[list[tuple[str, float]]] | list[list[list[tuple[str, float]]]]:
        """Find the tokens of the vocabulary that are nearest to each vector of the active adapter's context.

        Args:
            tokenizer: The base model's tokenizer, or the processor that holds it.
            count: How many tokens per vector.

        Returns:
            For each context vector at the input a list of `(token, Euclidean distance)`, nearest first; for
            class-specific contexts such a list for each class. (Deeper layers' tokens are no word embeddings.)

        Raises:
            ValueError: The adapter has no context tokens.
        """
        layer = self._text_layer if self.active_config.num_text_tokens else None
        if layer is None:
            raise ValueError("The adapter has no context tokens to interpret, only vision tokens.")
        context = layer.clip_prompt_context[self.active_adapters[0]].detach()
        # Looked up rather than taken, since it may be quantised.
        words = torch.arange(layer.token_embedding.num_embeddings, device=layer.token_embedding.weight.device)
        arguments = layer.token_embedding(words), tokenizer_of(tokenizer), count
        if context.dim() == 2:
            return nearest_tokens(context, *arguments)
        return [nearest_tokens(context_of_class, *arguments) for context_of_class in context]

    def tokenize_names(
        self, names: Sequence[str], tokenizer: PreTrainedTokenizerBase | ProcessorMixin, template: str = "{}"
    ) -> tuple[list[list[int]], list[int]]:
        """Return the texts of names as `encode_names` takes them: token ids, and where in these the names end.

        Args:
            names: The names, not empty.
            tokenizer: The base model's tokenizer, or the processor that holds it.
            template: The text around a name.

        Raises:
            ValueError: A template without exactly one `{}`, a name too long for the position table together with the
                context, a tokenizer of another model.
        """
        tower = self._text_tower
        token_ids, name_ends = tokenize_names(names, tokenizer, template, tower)
        check_texts(names, token_ids, 0 if self.adapter is None else self.active_config.num_text_tokens, tower)
        return token_ids, name_ends

    def encode_names(
        self,
        token_ids: Sequence[Sequence[int]],
        name_ends: Sequence[int] | None = None,
        image_features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return features of the texts of names behind the active adapter's context; the fast way where that is exact.

        Args:
            token_ids: As from `tokenize_names`.
            name_ends: As from `tokenize_names`.
            image_features: Features of the images that shift a conditional context, normalised, images × projection
                width. Without them the context is as it is.

        Returns:
            names × projection width, not normalised; with `image_features`, images × names × projection width.
        """
        layer = self._text_layer
        if layer is not None and layer.shares_prefix:
            context = None if image_features is None else layer.shifted_context(image_features)
            chunk_size = self.active_config.class_chunk_size
            features = layer.encode_behind_prefix(self._text_tower, token_ids, context, chunk_size)
            return self.comparison.encoders.text_projection(features)
        # Padding with EOS leaves the first EOS, where the tower pools, in its place.
        input_ids = pad_sequence([torch.tensor(ids) for ids in token_ids], True, padding_value=token_ids[0][-1])
        ends = None if name_ends is None else torch.tensor(name_ends)
        device = self.comparison.encoders.logit_scale.device
        return self.encode_token_ids(input_ids.to(device), None, image_features, ends)

    @property
    def comparison(self) -> Comparison:
        """How the model is compared with class texts, for the task of the adapter that answers this call.

        Raises:
            ValueError: The model does not compare images with texts.
        """
        comparison = self._comparison
        if comparison is None:
            raise ValueError(f"{type(self.model).__name__} does not compare images with texts; use a CLIPModel.")
        return comparison

    @property
    def _comparison(self) -> Comparison | None:
        name = self.adapter or next(iter(self.active_adapters), None)
        config = self.peft_config.get(name) if name in self.prompt_adapters else None
        if not isinstance(config, CLIPPromptConfig):
            return find_comparison(self.model)
        comparison = find_comparison(self.model, config.task)
        if comparison is not None:
            comparison.config = config
        return comparison

    @property
    def labels_images(self) -> bool:
        """True if an image has one label; False if each object or pixel has one."""
        return self._comparison is None or self._comparison.labels_images

    @property
    def sees_images_frozen(self) -> bool:
        """True if nothing trains that encodes images, so their features may be kept."""
        if self._comparison is None:
            return False
        tower, _ = find_vision_tower(self.model)
        return not self.active_config.num_vision_tokens and not self._any_trains(tower, self._comparison.heads)

    @property
    def reads_texts_frozen(self) -> bool:
        """True if nothing trains, or is dropped at random, that encodes the classes' texts: features may be kept."""
        if self._comparison is None or self.active_config.num_text_tokens:
            return False
        tower = self._text_tower
        return not _drops(tower) and not self._any_trains(tower, ["text_projection"])

    def _any_trains(self, tower: TextModel | VisionModel, heads: Sequence[str]) -> bool:
        """True if a parameter of a tower trains, or of those of these modules that the model has."""
        modules = [tower]
        for part in (self.model, self.comparison.encoders):
            modules += [module for name, module in part.named_children() if name in heads]
        return any(parameter.requires_grad for module in modules for parameter in module.parameters())

    @torch.no_grad()
    def encode_images(self, **inputs: Any) -> torch.Tensor:
        """Return what the image tower makes of images, without prompts and without a graph.

        Where `sees_images_frozen`, these are the `image_features` for `classify`.

        Args:
            **inputs: `pixel_values`, and whatever else `get_image_features` takes; other inputs are ignored.

        Returns:
            batch × width, not normalised; of models that find objects or segment, what their comparison keeps.
        """
        inputs_of_images = {name: value for name, value in inputs.items() if name in self.image_input_names}
        with self.without_prompts():
            return self.comparison.encode_images(**inputs_of_images)

    @property
    def image_input_names(self) -> frozenset[str]:
        """The names of what `encode_images` takes."""
        return self.comparison.image_input_names

    def encode_token_ids(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        image_features: torch.Tensor | None,
        name_ends: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return features of texts from a tensor of token ids, which `torch.export` can trace.

        Args:
            input_ids: As the tokenizer pads them, texts × length.
            attention_mask: As the tokenizer makes it, texts × length; None where the tower does without.
            image_features: As of `encode_names`.
            name_ends: Where the names end, texts; by default at the EOS.

        Returns:
            texts × projection width, not normalised; with `image_features` images × texts × projection width.
        """
        layer, texts = self._text_layer, input_ids.shape[0]
        images = 1 if image_features is None else image_features.shape[0]
        call: AbstractContextManager[None] = nullcontext()
        if layer is not None:
            context = None
            if image_features is not None:
                context = layer.shifted_context(image_features).unsqueeze(1).expand(-1, texts, -1, -1).flatten(0, 1)
            elif self.active_config.class_specific:
                context = layer.active_context
            call = layer.using_context(context, None if name_ends is None else name_ends.repeat(images))
        with call:
            features = self.comparison.encoders.get_text_features(
                input_ids=input_ids.repeat(images, 1),
                attention_mask=None if attention_mask is None else attention_mask.repeat(images, 1),
            ).pooler_output
        return features if image_features is None else features.view(images, texts, -1)

    @property
    def shares_prefix(self) -> bool:
        """True if all class names stand behind the same context, which is then encoded once for all of them."""
        return self._text_layer is not None and self._text_layer.shares_prefix

    @property
    def _is_conditional(self) -> bool:
        return self.adapter is not None and self.active_config.conditional

    @property
    def _text_tower(self) -> TextModel:
        found = find_text_tower(self.model)
        if found is None:
            raise ValueError(
                f"{type(self.model).__name__} has no text tower of a type that is known: "
                f"{', '.join(sorted(TEXT_TOWERS))}. Set num_text_tokens=0 to prompt its vision tower only; another "
                "type is made known by hf_sharp_prompt.tuners.register_text_tower."
            )
        return found[1]

    @property
    def _vision_tower(self) -> VisionModel:
        if model_type_of(self.model) in TEXT_TOWERS:
            raise ValueError(
                f"{type(self.model).__name__} sees no images, so that vision tokens have no place in it; set "
                "num_vision_tokens=0 or use the model that it is a tower of."
            )
        return find_vision_tower(self.model)[0]

    @property
    def _text_layer(self) -> PromptedTextEmbeddings | None:
        """The text tower's tuner layer, if an adapter has context tokens."""
        embeddings = self._text_tower.embeddings
        return embeddings if isinstance(embeddings, PromptedTextEmbeddings) else None

    @property
    def _feature_width(self) -> int:
        """The width of `get_image_features`."""
        if "visual_projection" in dict(self.model.named_children()):
            return self.model.visual_projection.out_features
        return find_vision_tower(self.model)[0].config.hidden_size


def _drops(tower: TextModel) -> bool:
    """True if a tower drops values at random while it trains, so that each pass gives other features."""
    return any(
        value for name, value in vars(tower.config).items() if "drop" in name and isinstance(value, int | float)
    )
