"""How a PEFT method from outside the `peft` package makes itself known to it."""

import enum

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner

from ..compat import explain_failed_loading


class PromptPeftType(str, enum.Enum):
    """The PEFT types of this project, str-valued like [`peft.PeftType`] so that they look up and serialise alike."""

    CLIP_PROMPT = "CLIP_PROMPT"
    VIT_PROMPT = "VIT_PROMPT"


def register(peft_type: PromptPeftType, config_class: type[PeftConfig], tuner_class: type[BaseTuner]) -> None:
    """Make `get_peft_model`, `PeftModel.from_pretrained` and `AutoPeftModel` know a method.

    (`peft.utils.register_peft_method` accepts only members of `peft.PeftType`, which cannot be extended.)
    """
    explain_failed_loading()
    PEFT_TYPE_TO_CONFIG_MAPPING[peft_type] = config_class
    PEFT_TYPE_TO_TUNER_MAPPING[peft_type] = tuner_class
    PEFT_TYPE_TO_PREFIX_MAPPING[peft_type] = tuner_class.prefix
