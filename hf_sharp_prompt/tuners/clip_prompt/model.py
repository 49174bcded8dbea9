from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, PreTrainedTokenizerBase, ProcessorMixin
from transformers.loss.loss_utils import fixed_cross_entropy
from transformers.modeling_outputs import ImageClassifierOutput

from .classes import tokenize_classes
from .config import CLIPPromptConfig
from .layer import PromptedTextEmbeddings


# Where the text embeddings are, per `config.model_type`: a regular expression for the module's whole name.
TEXT_EMBEDDINGS = {
    "clip": r"text_model\.embeddings",
    "clip_text_model": r"(text_model\.)?embeddings",
}


class CLIPPromptModel(BaseTuner):
    """Puts learned context tokens in front of every text of a CLIP-like model, and classifies images with it.

    Made by `get_peft_model(clip, CLIPPromptConfig(...))`; its methods are called on the `PeftModel` that returns.

    Args:
        model: A `CLIPModel`, or a `CLIPTextModel` or `CLIPTextModelWithProjection` where only texts are encoded.
        peft_config: A [`CLIPPromptConfig`].
        adapter_name: The adapter's name.

    Raises:
        ValueError: A model of unknown type; a context that does not fit the position table; a `text_init` longer than
            the context, or without a tokenizer to read it.

    Example:
        ```py
        >>> model = get_peft_model(clip, CLIPPromptConfig(num_text_tokens=4, text_init="a photo of a"))
        >>> model.set_classes(["abyssinian", "beagle"], tokenizer)
        >>> model(pixel_values=pixel_values, labels=labels).loss
        ```
    """

    prefix = "clip_prompt_"
    tuner_layer_cls = PromptedTextEmbeddings

    def set_classes(
        self,
        names: Sequence[str],
        tokenizer: PreTrainedTokenizerBase | ProcessorMixin,
        template: str = "{}",
    ) -> None:
        """Set the classes that the active adapter classifies into; they are saved with it.

        Args:
            names: At least two different class names.
            tokenizer: The CLIP model's tokenizer, or the processor that holds it.
            template: The text around a name, e.g. `"{}."`, which follows the learned context tokens.

        Raises:
            ValueError: Fewer than two names, an empty or repeated one, a template without exactly one `{}`, a name
                too long for the position table, a tokenizer of another model.
        """
        token_ids = tokenize_classes(names, tokenizer, template)
        config = self.active_config
        layer = next(module for module in self.model.modules() if isinstance(module, PromptedTextEmbeddings))
        self._check_class_texts(names, token_ids, config, layer)
        config.class_names, config.class_template, config.class_token_ids = list(names), template, token_ids

    @contextmanager
    def using_classes(
        self,
        names: Sequence[str],
        tokenizer: PreTrainedTokenizerBase | ProcessorMixin,
        template: str = "{}",
    ) -> Iterator[None]:
        """Within the block, classify among other classes; arguments and errors as in `set_classes`."""
        config = self.active_config
        held = config.class_names, config.class_template, config.class_token_ids
        self.set_classes(names, tokenizer, template)
        try:
            yield
        finally:
            config.class_names, config.class_template, config.class_token_ids = held

    @property
    def active_config(self) -> CLIPPromptConfig:
        """The config of the active adapter.

        Raises:
            ValueError: No adapter is active, the last one having been deleted.
        """
        if not self.active_adapters:
            raise ValueError("The model has no prompt adapter left; add one with add_adapter or load_adapter.")
        return self.peft_config[self.active_adapters[0]]

    def get_class_features(self) -> torch.Tensor:
        """Text features of the classes, classes × projection width, not normalised.

        Raises:
            ValueError: No classes are set.
        """
        token_ids = self.active_config.class_token_ids
        if token_ids is None:
            raise ValueError(
                "This adapter has no classes to classify into. Call model.set_classes(names, tokenizer) first, or "
                "pass input_ids to compare the images with texts of your own."
            )
        # Padding with EOS leaves the first EOS, where the tower pools, in its place.
        input_ids = pad_sequence([torch.tensor(ids) for ids in token_ids], True, padding_value=token_ids[0][-1])
        return self.model.get_text_features(input_ids=input_ids.to(self.model.logit_scale.device)).pooler_output

    def classify(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        image_features: torch.Tensor | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        **kwargs: Any,
    ) -> ImageClassifierOutput:
        """Classify images among the classes of `set_classes`; what `model(pixel_values=…, labels=…)` calls.

        `logits = exp(logit_scale) · cos(image feature, class feature)`; the loss is their cross entropy.

        Args:
            pixel_values: Images as the model's processor makes them, batch × channels × height × width.
            labels: Class indices, batch; without them no loss is computed.
            image_features: Instead of `pixel_values`: the pooled outputs of `get_image_features`, batch × width.
            num_items_in_batch: What the summed loss is divided by when the batch is part of a larger one, as the
                Trainer asks; by default the batch's own size.
            **kwargs: Passed on to `get_image_features`.

        Returns:
            `loss` (scalar, with labels) and `logits` (batch × classes).
        """
        if image_features is None:
            image_features = self.model.get_image_features(pixel_values=pixel_values, **kwargs).pooler_output
        class_features = self.get_class_features()
        class_features = class_features / class_features.norm(dim=-1, keepdim=True)
        image_features = image_features.to(class_features)
        image_features = image_features / image_features.norm(dim=-1, keepdim=True)
        logits = self.model.logit_scale.exp() * image_features @ class_features.T
        loss = None if labels is None else fixed_cross_entropy(logits, labels, num_items_in_batch)
        return ImageClassifierOutput(loss=loss, logits=logits)

    def unload(self) -> nn.Module:
        """Take the prompts out and return the base model as it was."""
        vars(self.model).pop("forward", None)
        vars(self.model).update(self._replaced_forward)
        return super().unload()

    def _post_injection_hook(self, model: nn.Module, config: PeftConfig, adapter_name: str) -> None:
        """Let the model's own `forward` classify when it is given images but no texts.

        `PeftModel.forward` calls the base model, not the tuner, and stock code calls the base model itself.
        """
        # What stood on the instance before, if anything (Accelerate puts its hooks there).
        self._replaced_forward = {name: value for name, value in vars(model).items() if name == "forward"}
        if hasattr(model, "get_image_features"):
            self._base_forward = model.forward
            model.forward = self._forward_or_classify

    def _forward_or_classify(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        image_features: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        if input_ids is None and not (pixel_values is None and image_features is None):
            return self.classify(pixel_values, labels, image_features, **kwargs)
        return self._base_forward(input_ids, pixel_values, attention_mask, **kwargs)

    def _prepare_adapter_config(self, peft_config: CLIPPromptConfig, model_config: dict) -> CLIPPromptConfig:
        model_type = model_config.get("model_type")
        if model_type not in TEXT_EMBEDDINGS:
            raise ValueError(
                f"CLIPPromptConfig does not know models of type {model_type!r}; it knows "
                f"{', '.join(sorted(TEXT_EMBEDDINGS))}."
            )
        peft_config.target_modules = TEXT_EMBEDDINGS[model_type]
        if peft_config.text_init is not None and peft_config.text_init_token_ids is None:
            peft_config.text_init_token_ids = self._tokenize_text_init(peft_config)
        n_init = len(peft_config.text_init_token_ids or ())
        if n_init > peft_config.num_text_tokens:
            raise ValueError(
                f"text_init has {n_init} tokens but num_text_tokens is {peft_config.num_text_tokens}; shorten it or "
                f"set num_text_tokens={n_init}."
            )
        return peft_config

    def _tokenize_text_init(self, config: CLIPPromptConfig) -> list[int]:
        source = config.tokenizer_name_or_path or getattr(self.model, "name_or_path", None)
        if not source:
            raise ValueError(
                f"text_init={config.text_init!r} needs a tokenizer, but the base model was not loaded by name; set "
                "tokenizer_name_or_path to its checkpoint, or give text_init_token_ids."
            )
        return AutoTokenizer.from_pretrained(source)(config.text_init, add_special_tokens=False)["input_ids"]

    def _create_and_replace(
        self,
        peft_config: CLIPPromptConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
    ) -> None:
        is_first = not isinstance(target, PromptedTextEmbeddings)
        layer = PromptedTextEmbeddings(target, parent.config.eos_token_id) if is_first else target
        if peft_config.class_token_ids is not None:  # of an adapter made elsewhere
            self._check_class_texts(peft_config.class_names, peft_config.class_token_ids, peft_config, layer)
        layer.update_layer(adapter_name, peft_config)
        if is_first:  # only now, so that a config refused above leaves the model as it was
            layer.make_room_in(parent)
            self._replace_module(parent, target_name, layer, target)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        # PEFT's own version also hands on `weight` and `bias`, which a tower's embeddings do not have.
        setattr(parent, child_name, new_module)

    def _check_class_texts(
        self,
        names: Sequence[str],
        token_ids: Sequence[Sequence[int]],
        config: CLIPPromptConfig,
        layer: PromptedTextEmbeddings,
    ) -> None:
        vocabulary = layer.token_embedding.num_embeddings
        for name, ids in zip(names, token_ids, strict=True):
            length = len(ids) + config.num_text_tokens
            if length > layer.max_positions:
                raise ValueError(
                    f"The text of class {name!r} and the {config.num_text_tokens} context tokens take {length} "
                    f"positions, but the text tower has {layer.max_positions}; shorten the name or the template."
                )
            if max(ids) >= vocabulary:
                raise ValueError(
                    f"The text of class {name!r} has token {max(ids)}, but the model's vocabulary has {vocabulary}; "
                    "use the tokenizer of the base model."
                )
            if int(layer.pooled_positions(torch.tensor([ids]))) != len(ids) - 1:
                raise ValueError(
                    f"The text of class {name!r} does not end in the token at which the text tower reads it; use the "
                    "tokenizer of the base model."
                )

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: PeftConfig, adapter_name: str, state_dict: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        state_dict = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        here = model.state_dict()
        for key, tensor in state_dict.items():
            if key in here and tensor.shape != here[key].shape:
                raise ValueError(
                    f"The adapter has {tensor.shape[0]} context tokens for a text tower of width {tensor.shape[1]}, "
                    f"but this model takes {here[key].shape[0]} of width {here[key].shape[1]}. Load it onto the model "
                    f"it was trained for ({config.base_model_name_or_path})."
                )
        return state_dict

    def _check_merge_allowed(self) -> None:
        raise ValueError(
            "Prompts are inputs, not weights, and cannot be merged into the model. Keep the adapter active, or call "
            "unload() to get the base model back."
        )
