"""Text from outside, for a terminal or a page."""

from __future__ import annotations

import re
import unicodedata


# Characters that move or recolour what a terminal shows, and those that reverse the direction of the text around them.
_CONTROLS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")


def printable(text: object) -> str:
    r"""Text on one line without control characters, which stand there as escapes such as `\x1b`.

    Use it where a name from a data set, a file or the Hub is printed, so that it cannot move the cursor, recolour the
    terminal or reverse what stands behind it.

    Args:
        text: What is printed; other objects than strings are converted.
    """
    text = unicodedata.normalize("NFC", str(text))
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
