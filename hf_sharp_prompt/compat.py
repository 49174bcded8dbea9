"""What reaches into peft, transformers or accelerate: each place with its reason and the versions it was read on."""

from __future__ import annotations

import functools
import json
from typing import Any

from peft.config import PeftConfigMixin
from peft.utils import CONFIG_NAME

from .hub import what_the_hub_said


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
