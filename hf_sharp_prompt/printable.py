"""Make text from data sets, files or the Hub safe to print."""

from __future__ import annotations

import re
import unicodedata


# Characters that move or recolour what a terminal shows, and those that reverse the direction of the text around them.
_CONTROLS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")


def printable(text: object) -> str:
    r"""Return text on one line, with control characters as escapes such as `\x1b`.

    Use it to print names from data sets, files or the Hub: they can then not move the cursor, recolour the terminal or
    reverse the text after them.

    Args:
        text: The text; other objects are converted to strings.
    """
    text = unicodedata.normalize("NFC", str(text))
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
