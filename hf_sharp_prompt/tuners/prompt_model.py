"""What all tuners that put learned tokens into a model share: PEFT's verbs, and what a call may choose."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from peft.utils import ModulesToSaveWrapper
from torch import nn

from ..compat.peft import OpenTuner, ReplacedForward
from ..compat.transformers import checkpointing_repeats_hooks
from .adapter_configs import AdapterConfigs, method_of
from .adapter_file import check_state_dict
from .call import asked, asking
from .prompt_layer import ADAPTER, BASE, PromptLayer, listen_to_call
from .registration import PromptPeftType
from .rows import answer_by_rows


ROWS = "adapter_names"
IMAGES = ("pixel_values", "image_features")


class PromptModel(OpenTuner):
    """Puts learned tokens into a model, one adapter of them at a time.

    Two ways lead to an adapter. PEFT's switches, `set_adapter` and `disable_adapter`, are the model's state and hold
    for all who use it, other threads included. What a call asks for itself (`using_adapter`, `without_prompts`,
    `classify(..., adapter=...)`, `adapter_names`) changes nothing and holds for that call alone.
    """

    peft_type: PromptPeftType

    # The base model's id2label and label2id; None until the first adapter is injected.
    _own_labels: tuple[dict[int, str], dict[str, int]] | None = None

    def __init__(
        self, model: nn.Module, peft_config: PeftConfig | dict[str, PeftConfig], adapter_name: str, **kwargs: Any
    ) -> None:
        others = AdapterConfigs(getattr(model, "peft_config", None) or {})
        others.check(adapter_name, peft_config[adapter_name] if isinstance(peft_config, dict) else peft_config)
        super().__init__(model, peft_config, adapter_name, **kwargs)
        # It is the model's, too, and adapters of other methods that are added to the model enter it.
        self.peft_config = self.model.peft_config = AdapterConfigs(self.peft_config)
        self._replaced_forward = ReplacedForward(self.model, self._forward_or_classify if self._classifies else None)
        self._own_labels = self.model.config.id2label, self.model.config.label2id
        self._name_classes()

    @property
    def prompt_adapters(self) -> list[str]:
        """The names of the prompt adapters; a model may have adapters of other methods, such as LoRA, beside them."""
        return [name for name, config in self.peft_config.items() if config.peft_type == self.peft_type]

    @property
    def adapter(self) -> str | None:
        """The adapter that answers this call; None for the base model."""
        return next((layer.adapter for layer in self.modules() if isinstance(layer, PromptLayer)), None)

    @contextmanager
    def using_adapter(self, adapter_name: str) -> Iterator[None]:
        """Within the block, and in this thread only, let another adapter than the active one answer.

        Nothing on the model changes: other threads are not disturbed, and every `requires_grad` stays as it is.

        Args:
            adapter_name: An adapter's name, or `"__base__"` for the model without prompts.

        Raises:
            ValueError: There is no such adapter; or gradient checkpointing of a transformers version that runs the
                layers' hooks again in the backward pass, when the block has ended.
        """
        self._check_adapter_names([adapter_name])
        if torch.is_grad_enabled() and self.training and checkpointing_repeats_hooks(self.model):
            raise ValueError(
                "A call cannot choose its adapter under this version's gradient checkpointing, which runs the layers' "
                "hooks again in the backward pass; call it within torch.no_grad(), or use set_adapter or "
                "disable_adapter, or update transformers."
            )
        modules = [each for each in self.modules() if isinstance(each, PromptLayer | ModulesToSaveWrapper)]
        with asking({(module, ADAPTER): adapter_name for module in modules}):
            yield

    def without_prompts(self) -> AbstractContextManager[None]:
        """Within the block, and in this thread only, let the base model answer as it was, bit for bit."""
        return self.using_adapter(BASE)

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """Make one adapter the active one, for all who use the model.

        Raises:
            ValueError: Several adapters are named, and two prompts cannot stand in the same place; or one of another
                method.
        """
        names = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
        if len(names) > 1:
            raise ValueError(f"One prompt adapter can be active at a time, got {names}.")
        if others := [name for name in names if name in self.peft_config and name not in self.prompt_adapters]:
            raise ValueError(
                f"Adapter {others[0]!r} is of type {method_of(self.peft_config[others[0]])} and stays beside the "
                "prompts; switch it on the model that it was added with."
            )
        super().set_adapter(adapter_name, inference_mode=inference_mode)
        self._name_classes()

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter; if it is the active one, the first of the others becomes active."""
        others = [name for name in self.prompt_adapters if name != adapter_name]
        if adapter_name in self.active_adapters and others:
            # PEFT lets each layer choose the next one from its own adapters, and unfreezes it.
            warnings.warn(
                f"Adapter {adapter_name} was active which is now deleted. Setting active adapter to {others[0]}.",
                stacklevel=2,
            )
            self.set_adapter(others[0], inference_mode=self.peft_config[others[0]].inference_mode)
        super().delete_adapter(adapter_name)
        self._name_classes()

    def enable_adapter_layers(self) -> None:
        """Let adapters take part in the model; every `requires_grad` stays as it is, also in copies of modules."""
        self._switch_adapter_layers(super().enable_adapter_layers)

    def disable_adapter_layers(self) -> None:
        """Let the base model answer; every `requires_grad` stays as it is, also in copies of modules."""
        self._switch_adapter_layers(super().disable_adapter_layers)

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Inject as PEFT does; copies of modules in `modules_to_save` listen to a call's adapter, too."""
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        for module in model.modules():
            if isinstance(module, ModulesToSaveWrapper):
                listen_to_call(module)

    def merge_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: prompts cannot be merged.

        Raises:
            ValueError: Always; it says what to do instead.
        """
        raise ValueError(
            "Prompts are inputs, not weights, and cannot be merged into the model. Keep the adapter active, or call "
            "unload() to get the base model back."
        )

    def merge_and_unload(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Refuse: prompts cannot be merged, as in `merge_adapter`."""
        self.merge_adapter()
        return self.model

    def unload(self) -> nn.Module:
        """Remove all adapters, and return the base model as it was."""
        self._replaced_forward.restore()
        if self._own_labels is not None:
            self.model.config.id2label, self.model.config.label2id = self._own_labels
        for module in self.model.modules():
            if isinstance(module, ModulesToSaveWrapper):
                module.set_adapter([])  # else PEFT leaves the trained copy in the place of the original
        return super().unload()

    @contextmanager
    def answering_rows(self, adapter_names: Sequence[str]) -> Iterator[None]:
        """Within the block, let each row of a batch be answered by the row's adapter.

        Args:
            adapter_names: For each row an adapter's name, or `"__base__"`.

        Raises:
            ValueError: An adapter that there is not; a model that does not classify, or is being trained.
        """
        self._check_adapter_names(adapter_names)
        if not self._classifies:
            raise ValueError(
                f"adapter_names is for models that classify images, and {type(self.model).__name__} with prompts "
                "does not; run the rows of each adapter within model.using_adapter(name)."
            )
        if self.training:
            raise ValueError("adapter_names is for inference; call model.eval(), or train one adapter at a time.")
        with asking({(self, ROWS): list(adapter_names)}):
            yield

    @classmethod
    def check_loaded(cls, model: PeftModel, adapter_name: str, state_dict: dict[str, torch.Tensor]) -> None:
        """Check what is about to be loaded into an adapter.

        Raises:
            ValueError: A tensor is missing, has another shape, is not of the adapter, or is not finite.
        """
        check_state_dict(model, adapter_name, state_dict, lambda key: cls.belongs_to(key, adapter_name))

    @property
    def _base_forward(self) -> Callable[..., Any]:
        """The base model's own `forward`."""
        return self._replaced_forward.original

    @property
    def _classifies(self) -> bool:
        """Whether the model's `forward` is replaced by `_forward_or_classify`."""
        raise NotImplementedError

    @property
    def _class_names(self) -> Sequence[str] | None:
        """The names of the classes that `forward` answers with; None where they are the model's own."""
        raise NotImplementedError

    def _answer(self, **inputs: Any) -> Any:
        """Return what `forward` answers to inputs by name."""
        raise NotImplementedError

    def _answer_by_rows(self, adapter_names: Sequence[str], inputs: dict[str, Any]) -> Any:
        rows = next((value for name in IMAGES if (value := inputs.get(name)) is not None), None)
        if rows is None or inputs.get("input_ids") is not None:
            raise ValueError(
                "adapter_names gives an adapter to each image that is classified; give pixel_values, and no input_ids."
            )
        if len(rows) != len(adapter_names):
            raise ValueError(
                f"adapter_names must have a name for each row, but there are {len(adapter_names)} names and "
                f"{len(rows)} rows."
            )

        def answer(adapter_name: str, **group: Any) -> Any:
            with self.using_adapter(adapter_name):
                return self._answer(**group)

        return_dict = inputs.pop("return_dict", None)
        with asking({(self, ROWS): None}):
            outputs = answer_by_rows(answer, adapter_names, inputs)
        return outputs.to_tuple() if return_dict is False else outputs

    def _forward_or_classify(self, *args: Any, **kwargs: Any) -> Any:
        """Replaces the base model's `forward`; takes the arguments of that and of `classify`."""
        inputs = dict(zip(inspect.signature(self._base_forward).parameters, args)) | kwargs
        adapter_names = asked(self, ROWS)
        return self._answer(**inputs) if adapter_names is None else self._answer_by_rows(adapter_names, inputs)

    def _check_adapter_names(self, adapter_names: Sequence[str]) -> None:
        if isinstance(adapter_names, str):
            raise ValueError(f"adapter_names must be a list with a name for each row, got {adapter_names!r}.")
        known = self.prompt_adapters
        if unknown := sorted({str(name) for name in adapter_names} - {*known, BASE}):
            raise ValueError(
                f"There is no prompt adapter {', '.join(map(repr, unknown))}; there are "
                f"{', '.join(map(repr, known)) or 'none'}, and {BASE!r} for the model without prompts."
            )

    def _switch_adapter_layers(self, switch: Callable[[], None]) -> None:
        before = [(parameter, parameter.requires_grad) for parameter in self.model.parameters()]
        switch()
        for parameter, requires_grad in before:
            parameter.requires_grad_(requires_grad)
        self._name_classes()

    def _name_classes(self) -> None:
        """Let the model's config name the classes that its `forward` answers with, as pipelines read them there."""
        if self._own_labels is None:
            return
        labels, names = self._own_labels, self._class_names
        if names is not None:
            labels = dict(enumerate(names)), {name: index for index, name in enumerate(names)}
        self.model.config.id2label, self.model.config.label2id = labels
