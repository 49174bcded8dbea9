"""A hook of mkdocs: what pages and docstrings refer to is shown as a reader of the site expects it."""

from __future__ import annotations

import posixpath
import re
from typing import Any


LINK = re.compile(r"\[([^\]]*)\]\((\.\.?/[^)\s]*)\)")
"""A link whose target begins with ./ or ../."""

REFERENCE = re.compile(r"\[<code>(?:~[\w.]*\.)?([\w.]+)</code>\]")
"""How docstrings refer to a name, as transformers' do; with ~ only its last part is shown."""

TYPE = re.compile(r"\(<code>(`[^<]*`[^<]*)</code>(?:, default:\s*<code>.*?</code>\s*)?\)", re.DOTALL)
"""How docstrings say types and defaults, as transformers' do, and behind it what the code says of the default."""

FIELD = re.compile(r"<code><span title=\"[\w.]*\">(?:config_field|hyperparameter)</span>\(([^,]*?)(?:, .*?)?\)</code>")
"""The code of a field's default, which is its first argument."""


def on_page_markdown(markdown: str, page: Any, config: Any, **unused: Any) -> str:
    """Let links to files of the repository outside docs/ lead to its address; without one only their text is shown."""
    folder, address = posixpath.dirname(f"docs/{page.file.src_uri}"), config["repo_url"]

    def lead(link: re.Match[str]) -> str:
        text, target = link[1], posixpath.normpath(posixpath.join(folder, link[2]))
        if target.startswith("docs/"):
            return link[0]
        return f"[{text}]({address}/blob/main/{target})" if address else text

    return LINK.sub(lead, markdown)


def on_page_content(html: str, **unused: Any) -> str:
    """Show names, types and defaults without the signs around them."""
    html = TYPE.sub(lambda said: f"({re.sub('[`*]', '', said[1])})", html)
    return FIELD.sub(r"<code>\1</code>", REFERENCE.sub(r"<code>\1</code>", html))
