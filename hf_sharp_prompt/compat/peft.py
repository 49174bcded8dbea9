"""A PEFT method from outside the `peft` package: how it is found, called, saved and loaded."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import torch
from peft import PeftConfig, PeftModel, PeftType
from peft.config import PeftConfigMixin
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import CONFIG_NAME
from torch import nn

from ..hub import what_the_hub_said


def register_method(peft_type: str, config_class: type[PeftConfig], tuner_class: type[BaseTuner]) -> None:
    """Make `get_peft_model`, `PeftModel.from_pretrained` and `AutoPeftModel` know a method.

    `peft.utils.register_peft_method` accepts only members of `peft.PeftType`, which cannot be extended. So the method
    is entered into PEFT's tables here, under a `str`-valued enum member, which compares and serialises like PEFT's.

    Read on peft 0.21.2.
    """
    explain_failed_loading()
    key = cast(PeftType, peft_type)
    PEFT_TYPE_TO_CONFIG_MAPPING[key] = config_class
    PEFT_TYPE_TO_TUNER_MAPPING[key] = tuner_class
    PEFT_TYPE_TO_PREFIX_MAPPING[key] = tuner_class.prefix


class OpenTuner(BaseTuner):
    """A tuner with public methods where PEFT has private hooks only: `answering_rows` and `check_loaded`.

    Two more private methods of PEFT do not fit modules within modules. The one that names the tensors of a file looks
    for the adapter's name in the last two places of a key, but a module within an adapter's module has more names
    behind it. The one that replaces a module hands on a `weight`, which a tower's embeddings do not have.

    Read on peft 0.21.2.
    """

    def answering_rows(self, adapter_names: Sequence[str]) -> AbstractContextManager[None]:
        """Return what surrounds a forward pass of the `PeftModel` that names an adapter for each row."""
        raise NotImplementedError

    @classmethod
    def check_loaded(cls, model: PeftModel, adapter_name: str, state_dict: dict[str, torch.Tensor]) -> None:
        """Check what is about to be copied into `model.state_dict()`, by its names there."""
        raise NotImplementedError

    @classmethod
    def belongs_to(cls, key: str, adapter_name: str) -> bool:
        """True if a name in `model.state_dict()` is of a tensor of the adapter."""
        return cls.prefix in key and cls._remove_adapter_name_from_key(key, adapter_name) != key

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        adapter_names = kwargs.get("adapter_names")
        if adapter_names is None:
            yield
            return
        with self.answering_rows(adapter_names):
            yield

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: PeftConfig, adapter_name: str, state_dict: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        state_dict = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        cls.check_loaded(cast(PeftModel, model), adapter_name, state_dict)  # only PeftModel injects it
        return state_dict

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        place, prefix, rest = key.rpartition(cls.prefix)
        part, *names = rest.split(".")
        if prefix and names[:1] == [adapter_name]:
            names = names[1:]
        return place + prefix + ".".join([part, *names])

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        setattr(parent, child_name, new_module)


class OpenTunerLayer(nn.Module, BaseTunerLayer):
    """A tuner layer whose adapters move to the device of what it stands beside, and keep their precision.

    PEFT moves an adapter after loading it with `low_cpu_mem_usage`. It looks for one `weight` of the base layer, which
    embeddings and towers do not have, and casts the adapter to the weight's precision.

    Read on peft 0.21.2.
    """

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        device = device or next(self.get_base_layer().parameters()).device
        for name in self.adapter_layer_names:
            parts = getattr(self, name)
            if adapter_name not in parts:
                continue
            part = parts[adapter_name]
            for tensor in [part] if isinstance(part, nn.Parameter) else part.parameters():
                tensor.data = tensor.data.to(device)


class ReplacedForward:
    """Another `forward` on a model's instance, until it is restored.

    `PeftModel.forward` calls the base model and not the tuner, so a tuner that answers in another way than the base
    model has to stand in the place of the base model's `forward`. Accelerate puts its hooks there, too; they are kept.

    Read on peft 0.21.2 and accelerate 1.15.0.

    Args:
        model: The base model.
        forward: What answers instead; None leaves the model as it is.
    """

    def __init__(self, model: nn.Module, forward: Callable[..., Any] | None) -> None:
        self.model = model
        self.on_instance = {name: value for name, value in vars(model).items() if name == "forward"}
        self.original: Callable[..., Any] = model.forward
        if forward is not None:
            vars(model)["forward"] = forward

    def restore(self) -> None:
        vars(self.model).pop("forward", None)
        vars(self.model).update(self.on_instance)


def explain_failed_loading() -> None:
    """Let PEFT say why an adapter's config cannot be read.

    `PeftModel.from_pretrained` first looks the method's name up in the config. Where that fails, it says only that it
    "Can't find" the file, whatever the Hub answered, and a file that is no JSON, or names no method, ends in the
    error of a parser or a bare `KeyError`. There is no hook before that look-up, so it is wrapped here. Nothing else
    changes: what could be loaded loads, and the types of errors are those of PEFT or a `ValueError`.

    Read on peft 0.21.2.
    """
    look_up = PeftConfigMixin._get_peft_type.__func__  # type: ignore[attr-defined]
    if getattr(look_up, "explains", False):
        return

    @functools.wraps(look_up)
    def explained(cls: type[PeftConfigMixin], model_id: str, **kwargs: Any) -> str:
        try:
            return look_up(cls, model_id, **kwargs)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"The {CONFIG_NAME} of {model_id} is no JSON ({error}); load the adapter again."
            ) from error
        except KeyError as error:
            raise ValueError(
                f"The {CONFIG_NAME} of {model_id} has no field {error}, which names the method."
            ) from error
        except ValueError as error:
            cause = error.__cause__ or error.__context__
            if cause is None or not str(error).startswith("Can't find"):
                raise
            raise ValueError(f"{error}: {what_the_hub_said(cause)}.") from error

    explained.explains = True  # type: ignore[attr-defined]
    PeftConfigMixin._get_peft_type = classmethod(explained)  # type: ignore[method-assign,assignment]


def replace_cards(
    tuner_class: type[Any],
    save_card: Callable[[PeftModel, str], None],
    prepare_push: Callable[[PeftModel, str, str], None],
) -> None:
    """Let a method of PEFT write its own cards.

    `PeftModel.save_pretrained` writes a generic card by a method of the model, and `push_to_hub` replaces the saved
    card by the repository's, or by an empty one, just before it uploads. No tuner is asked, so that the two methods
    are wrapped here. Models of other methods keep what PEFT does.

    Read on peft 0.21.2 and transformers 5.24.0.

    Args:
        tuner_class: The method's tuner.
        save_card: Is called with the model and the directory that it is saved in.
        prepare_push: Is called with the model, the folder that is uploaded next, and the repository.
    """
    write, upload = PeftModel.create_or_update_model_card, PeftModel._upload_modified_files

    @functools.wraps(write)
    def own_card(self: PeftModel, output_dir: str) -> None:
        if isinstance(self.base_model, tuner_class):
            save_card(self, output_dir)
        else:
            write(self, output_dir)

    @functools.wraps(upload)
    def prepared(self: PeftModel, working_dir: str, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self.base_model, tuner_class):
            prepare_push(self, working_dir, repo_id)
        return upload(self, working_dir, repo_id, *args, **kwargs)

    PeftModel.create_or_update_model_card = own_card  # type: ignore[method-assign]
    PeftModel._upload_modified_files = prepared  # type: ignore[method-assign,assignment]
