"""A combination of fields that is no published design."""

from ...prompt_design import CUSTOM
from .design import CLIPDesign


class Custom(CLIPDesign, name=CUSTOM):
    """A combination of one's own. It claims no published name, and cards say what is learned."""

    title = "custom prompts"
