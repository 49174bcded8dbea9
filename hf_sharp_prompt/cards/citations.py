"""The papers of what was used, and how they are cited."""

from __future__ import annotations

import inspect
import re
import unicodedata
from typing import NamedTuple

from .escaping import escape


class Paper(NamedTuple):
    """A paper.

    Args:
        citation: Authors, title in quotation marks, where and when it was published.
        url: Where it can be read; empty if nowhere is known.
    """

    citation: str
    url: str

    @property
    def link(self) -> str:
        """The citation in Markdown, linked if the address is one of the web."""
        cited = escape(self.citation)
        return f"[{cited}]({self.url})" if re.fullmatch(r"https?://[\w./:%~?=&+-]+", self.url) else cited

    @property
    def bibtex(self) -> str:
        """The entry of a bibliography, as far as the citation tells."""
        found = re.fullmatch(r"(.*?),? *[“\"](.*?)[”\"][ ,]*(.*)", self.citation)
        authors, title, where = found.groups() if found else ("", self.citation, "")
        year = (re.findall(r"\b(?:19|20)\d\d\b", where) or [""])[-1]
        fields = {
            "author": _in_braces(re.sub(r" et al\.?$", " and others", authors)),
            "title": "{" + _in_braces(title) + "}",  # BibTeX would write names such as CLIP small
            "note": _in_braces(where),
            "year": year,
            "url": _in_braces(self.url),
        }
        rows = [f"  {name} = {{{value}}}," for name, value in fields.items() if value.strip("{}")]
        word = next((each for each in re.findall(r"\w+", title.lower()) if len(each) > 3), "paper")
        key = _in_ascii(f"{authors.split(' ')[0].lower()}{year}{word}")
        return "\n".join([f"@misc{{{key or 'paper'},", *rows, "}"])


def paper_in(member: type) -> Paper | None:
    """Return the paper that a class's docstring names in its section "Reference"; None if it names none."""
    text = inspect.getdoc(member) or ""
    section = re.search(r"^Reference:\n((?:    .*\n?)+)", text, re.MULTILINE)
    if section is None:
        return None
    reference = re.sub(r" \([A-Z]\w*\)", "", " ".join(section[1].split()))  # the name of what the paper proposes
    cited, *_ = re.split(r"; |\. (?=[A-Z])|, equations? ", reference)  # without remarks
    url = re.search(r"https?://[^\s,;]+", cited)
    citation = re.sub(r",? *https?://[^\s,;]+", "", cited).rstrip(" .,")
    return Paper(citation, url[0].rstrip(".") if url else "")


def _in_braces(text: str) -> str:
    """Text that cannot end a field of BibTeX."""
    return re.sub(r"[{}\\`]", "", " ".join(text.split()))


def _in_ascii(text: str) -> str:
    return re.sub(r"\W", "", unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode())
