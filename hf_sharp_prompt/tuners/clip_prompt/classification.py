"""How a prompted CLIP classifies images: it compares them with the texts of class names."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import normalize
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from ..call import asked, asking
from ..pooled_output import reading_cls
from ..prompted_classifier import PromptedClassifier
from ..vision_tower import find_vision_tower
from .classes import as_format, check_class_names, check_class_texts, tokenize_names
from .encoders import CLASSES, PromptedEncoders


if TYPE_CHECKING:
    from transformers.models.clip.modeling_clip import CLIPOutput


CLASS_FEATURES = "class_features"

BACKGROUND_NAME = "background"
"""What pixels are called that show none of the classes."""


class NameClassifier(PromptedEncoders, PromptedClassifier):
    """The part of a [`CLIPPromptModel`] that classifies images by the texts of class names."""

    def set_classes(
        self,
        names: Sequence[str],
        tokenizer: PreTrainedTokenizerBase | ProcessorMixin,
        template: str = "{}",
    ) -> None:
        """Set the classes that the active adapter classifies into; they are saved with it.

        Args:
            names: Different class names: at least two, or one where background is beside it (a detector, CLIPSeg).
            tokenizer: The CLIP model's tokenizer, or the processor that holds it.
            template: The text around a name, e.g. `"{}."`, which follows the learned context tokens.

        Raises:
            ValueError: Too few names, an empty or repeated one, names of the same tokens, a template without
                exactly one `{}`, a name too long for the position table, a tokenizer of another model, a model without
                an image tower.
        """
        vars(self._config_of(self._adapter_of_config)).update(self._read_classes(names, tokenizer, template))
        self._name_classes()

    def _read_classes(
        self, names: Sequence[str], tokenizer: PreTrainedTokenizerBase | ProcessorMixin, template: str
    ) -> dict[str, Any]:
        """Return the config's fields of classes; arguments and errors as in `set_classes`."""
        if self._comparison is None:
            raise ValueError(
                f"{type(self.model).__name__} does not compare images with texts; use a CLIPModel, or the like, to "
                "classify by names."
            )
        config = self.active_config
        if config.class_specific and list(names) != config.class_names:
            raise ValueError(
                f"The adapter has a context for each of its {len(config.class_names or ())} classes and none for "
                "others; use an adapter with class_specific=False to classify by other names."
            )
        tower = self._text_tower
        check_class_names(names, self._comparison.fewest_classes)
        token_ids, name_ends = tokenize_names(names, tokenizer, template, tower)
        check_class_texts(names, token_ids, config.num_text_tokens, tower)
        return {
            "class_names": list(names),
            "class_template": template,
            "class_token_ids": token_ids,
            "class_name_ends": name_ends,
        }

    def using_classes(
        self,
        names: Sequence[str],
        tokenizer: PreTrainedTokenizerBase | ProcessorMixin,
        template: str = "{}",
    ) -> AbstractContextManager[None]:
        """Within the block, and in this thread only, classify into other classes; arguments as in `set_classes`.

        They hold for the adapter that answers at the start of the block; `active_config` shows them. Nothing on the
        model changes.

        Raises:
            ValueError: As `set_classes`.
        """
        classes = self._read_classes(names, tokenizer, template)
        return asking({(self, CLASSES): {**(asked(self, CLASSES) or {}), self._adapter_of_config: classes}})

    def keeping_class_features(self) -> AbstractContextManager[None]:
        """Within the block, in which prompts do not change, compute the features of the same classes only once.

        It holds in this thread only. Features of a conditional context are computed for every image. A block within
        another one uses the features of that, if nothing trains that encodes texts.
        """
        kept = asked(self, CLASS_FEATURES) if self.reads_texts_frozen else None
        return asking({(self, CLASS_FEATURES): {} if kept is None else kept})

    def get_class_features(self, image_features: torch.Tensor | None = None) -> torch.Tensor:
        """Return the text features of the classes, not normalised.

        Args:
            image_features: Features of the images that shift a conditional context, normalised, images × projection
                width. Without them the context is as it is.

        Returns:
            classes × projection width; with `image_features`, images × classes × projection width.

        Raises:
            ValueError: No classes are set.
        """
        # Read at once, since another thread may set other classes meanwhile.
        config = vars(self.active_config).copy()
        if config["class_token_ids"] is None:
            raise ValueError(
                "This adapter has no classes to classify into. Call model.set_classes(names, tokenizer) first, or "
                "pass input_ids to compare the images with texts of your own."
            )
        texts, kept = (config["class_token_ids"], config["class_name_ends"]), asked(self, CLASS_FEATURES)
        if image_features is not None or kept is None:
            return self.encode_names(*texts, image_features)
        scale = self.comparison.encoders.logit_scale
        key = self.adapter, scale.device, scale.dtype, *map(tuple, config["class_token_ids"])
        if key not in kept:
            kept[key] = self.encode_names(*texts)
        return kept[key]

    @property
    def hypothesis_template(self) -> str:
        """The text around a class name that the active adapter was trained with, as zero-shot pipelines take it.

        Their own default is "This is a photo of {}.", which would follow the learned context.

        Example:
            ```py
            >>> classify = pipeline(
            ...     "zero-shot-image-classification",
            ...     model=model.get_base_model(),
            ...     tokenizer=tokenizer,
            ...     image_processor=image_processor,
            ...     hypothesis_template=model.hypothesis_template,
            ... )
            >>> classify(image, candidate_labels=["abyssinian", "beagle"])
            ```
        """
        return as_format(self.active_config.class_template)

    def classify(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        image_features: torch.Tensor | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        *,
        names: Sequence[str] | None = None,
        tokenizer: PreTrainedTokenizerBase | ProcessorMixin | None = None,
        template: str | None = None,
        adapter: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Classify images into the classes of `set_classes`; what `model(pixel_values=…, labels=…)` calls.

        This call may name other classes and another adapter; they change nothing on the model. How images are compared
        with classes, and what the loss is, is the business of the model's kind; see `comparisons/`. Of a `CLIPModel`
        it is `logits = exp(logit_scale) · cos(image feature, class feature)` and their cross entropy.

        Args:
            pixel_values: Images as the model's processor makes them, batch × channels × height × width.
            labels: Class indices, batch, or probabilities, batch × classes; without them no loss is computed. Models
                that find objects or segment take those of objects or pixels.
            image_features: Instead of `pixel_values`: what `encode_images` returns; of a `CLIPModel` the pooled
                outputs of `get_image_features`, batch × width.
            num_items_in_batch: What the summed loss is divided by when the batch is part of a larger one, as in the
                Trainer; by default the number of the batch's labels that count.
            names: Class names for this call instead of those of `set_classes`.
            tokenizer: What reads `names`; by default loaded, once, from the base model's checkpoint. Other threads
                may use the same one meanwhile, but not with truncation, which a fast tokenizer holds for all.
            template: The text around each of `names`; by default the adapter's.
            adapter: The adapter that answers this call, or `"__base__"` for the model without prompts, instead of
                the active one.
            **kwargs: What else the loss takes, such as `boxes`; the rest is passed on to `get_image_features`.

        Returns:
            `loss` (scalar, with labels) and `logits` (of images batch × classes); while the model trains also
            `class_features` and, of images, `image_features`, for objectives; in evaluation nobody reads them, and the
            Trainer would gather them.

        Raises:
            ValueError: No classes are set; `image_features` of a frozen tower, where vision tokens train; a label
                outside the classes; names as in `set_classes`, or an adapter that does not exist.
        """
        with ExitStack() as call:
            if adapter is not None:
                call.enter_context(self.using_adapter(adapter))
            if names is not None:
                config = self.active_config
                tokenizer = tokenizer or self.load_tokenizer(config, "names", "tokenizer")
                template = config.class_template if template is None else template
                call.enter_context(self.using_classes(names, tokenizer, template))
            elif tokenizer is not None or template is not None:
                raise ValueError("tokenizer and template read the names of a call; give names with them.")
            return self._classify(pixel_values, labels, image_features, num_items_in_batch, **kwargs)

    def _classify(
        self,
        pixel_values: torch.Tensor | None,
        labels: torch.Tensor | None,
        image_features: torch.Tensor | None,
        num_items_in_batch: int | torch.Tensor | None,
        **kwargs: Any,
    ) -> Any:
        comparison = self.comparison
        targets = {"labels": labels, **{name: kwargs.pop(name) for name in comparison.targets if name in kwargs}}
        prompts_images = self.active_config.num_vision_tokens > 0 and self.adapter is not None
        if image_features is None:
            # Without vision tokens, the image tower computes what it does without prompts, bit for bit.
            with self._reading_pooled_output() if prompts_images else nullcontext():
                image_features = comparison.encode_images(pixel_values=pixel_values, **kwargs)
        elif prompts_images:
            raise ValueError(
                "image_features come from the image tower without this adapter's vision tokens; give pixel_values."
            )
        image_features = comparison.prepare(image_features)
        class_features = self.get_class_features(
            comparison.condition(image_features) if self._is_conditional else None
        )
        normalized = normalize(class_features, dim=-1)
        compared = normalized if comparison.normalizes_classes else class_features
        predicted = comparison.predict(image_features, compared)
        loss = None if labels is None else comparison.loss(predicted, targets, num_items_in_batch)
        features = comparison.features(image_features, normalized) if self.model.training else {}
        return comparison.output_class(loss=loss, **predicted, **features)

    def _reading_pooled_output(self) -> AbstractContextManager[None]:
        """Within the block, the image tower computes no more than its pooled output needs, if that is what is read."""
        tower, parts = find_vision_tower(self.model)
        return reading_cls(tower) if parts.pools_cls and self.comparison.labels_images else nullcontext()

    def compare(self, image_features: torch.Tensor, text_features: torch.Tensor) -> torch.Tensor:
        """Return the logits of images over texts, from normalised features, scaled as the model itself does.

        Args:
            image_features: images × width.
            text_features: texts × width, or images × texts × width.

        Returns:
            images × texts.
        """
        return self.comparison.predict(image_features, text_features)["logits"]

    @property
    def _class_names(self) -> Sequence[str] | None:
        """The names of the active adapter; without prompts the images are compared with the same ones.

        Where pixels may be of none of them, a name follows for these, so that pipelines can name such pixels.
        """
        name = next(iter(self.active_adapters), None)
        if name is None or name not in self.peft_config or self._comparison is None:
            return None
        names = self._config_of(name).class_names
        return names if names is None or not self._comparison.knows_background else [*names, BACKGROUND_NAME]

    def _forward_or_classify(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        *args: Any,
        labels: torch.Tensor | None = None,
        image_features: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        # The Trainer asks the signature what the model takes.
        images = {"labels": labels, "image_features": image_features}
        return super()._forward_or_classify(input_ids, pixel_values, *args, **images, **kwargs)

    def _answer(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        image_features: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        comparison = self.comparison
        own = {"input_ids": input_ids, **kwargs}
        is_own = any(own.get(name) is not None for name in comparison.own_inputs)
        if not is_own and not (pixel_values is None and image_features is None):
            return self.classify(pixel_values, labels, image_features, **kwargs)
        if input_ids is not None and pixel_values is not None and self._is_conditional:
            return self._compare_conditionally(input_ids, pixel_values, **kwargs)
        inputs = {"input_ids": input_ids, "pixel_values": pixel_values, **kwargs}
        if labels is not None and "labels" in inspect.signature(self._base_forward).parameters:
            inputs["labels"] = labels
        return comparison.answer(self._base_forward, inputs)

    def _compare_conditionally(
        self,
        input_ids: torch.Tensor,
        pixel_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        return_loss: bool | None = None,
        **kwargs: Any,
    ) -> CLIPOutput:
        """Return what the model's forward returns, with every text's features made for every image.

        (Position ids are made again for the longer texts.)
        """
        from transformers.models.clip.modeling_clip import CLIPOutput

        if return_loss:
            raise ValueError("A conditional context has no contrastive loss; train it with labels, as a classifier.")
        kwargs.pop("return_dict", None)
        vision_outputs = self.model.get_image_features(pixel_values=pixel_values, **kwargs)
        image_embeds = normalize(vision_outputs.pooler_output, dim=-1)
        text_embeds = normalize(self.encode_token_ids(input_ids, attention_mask, image_embeds, None), dim=-1)
        logits = self.compare(image_embeds, text_embeds)
        return CLIPOutput(
            logits_per_image=logits,
            logits_per_text=logits.T,
            image_embeds=image_embeds,
            text_embeds=text_embeds,
            vision_model_output=vision_outputs,
        )
