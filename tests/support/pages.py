"""What pages of the documentation show: their blocks, the commands in these, and the folders that their trees draw."""

import re
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple


ROOT = Path(__file__).parents[2]


class Block(NamedTuple):
    """A fenced block of a page.

    Args:
        name: The file whose text it shows, if the line above it names one.
        kind: The language.
        text: What stands in it.
    """

    name: str
    kind: str
    text: str


def read_page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page's text, in their order; those within a list are indented."""
    found = re.findall(r"(?:`([^`\n]+)`:\n\n)?^( *)```(\w+)\n(.*?)^\2```$", page, re.DOTALL | re.MULTILINE)
    return [Block(name, kind, re.sub(f"(?m)^{indent}", "", text)) for name, indent, kind, text in found]


def commands_of(blocks: Iterable[Block]) -> list[list[str]]:
    """The words of each command in blocks of a shell, without values of variables in front and comments behind."""
    lines = [line for block in blocks if block.kind == "bash" for line in joined(block.text)]
    commands = [shlex.split(part, comments=True) for line in lines for part in line.split(" && ")]
    return [words[_assignments(words) :] for words in commands if words]


def joined(text: str) -> list[str]:
    """The lines of a shell's block; one that ends in a backslash goes on in the next."""
    return text.replace("\\\n", " ").splitlines()


def _assignments(words: list[str]) -> int:
    return next((place for place, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), len(words))


def grow(tree: str, root: Path, make_file: Callable[[Path], None]) -> None:
    """Make the folders of a tree, in which four spaces are a level; call `make_file` with the path of each file."""
    folders: list[str] = []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 4
        for name in re.split(r" {2,}", line.strip()):
            path = root.joinpath(*folders[:depth], name)
            if name.endswith("/"):
                path.mkdir()
                folders[depth:] = [name]
            else:
                make_file(path)
