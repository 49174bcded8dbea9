"""Put names from outside into a card as text, never as markup."""

from __future__ import annotations

import re

from ..printable import printable


def escape(text: object) -> str:
    """Return text that Markdown shows literally, on one line: no markup, no HTML, no table cells."""
    text = printable(" ".join(str(text).split())).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", text)


def in_code(text: object) -> str:
    """Return text for the inside of a string in the card's code, without what could end string, line or block."""
    return re.sub(r"[\"\\`]", "", printable(re.sub(r"[\r\n]", "", str(text))))


def escape_around_code(text: str) -> str:
    """Return text whose parts between backticks stay code, for a cell of a table; the others are escaped."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a backtick without its other
        return escape(text)
    return "".join(
        f"`{in_code(part)}`".replace("|", "\\|") if place % 2 else _escape_in_place(part)
        for place, part in enumerate(parts)
    )


def _escape_in_place(text: str) -> str:
    """Escape a part of a text, whose blanks at both ends stay."""
    return f"{' ' * text.startswith(' ')}{escape(text)}{' ' * (text.endswith(' ') and len(text) > 1)}"
