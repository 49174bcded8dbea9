"""The house as CONTRIBUTING.md draws it: which room may import which, without circles."""

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from hf_sharp_prompt import objectives, sharpness


ROOT = Path(__file__).parents[1]
PACKAGE = "hf_sharp_prompt"


@cache
def imports() -> dict[str, set[str]]:
    """By module the modules of the package that it imports, anywhere in the file: TYPE_CHECKING counts, too."""
    modules = {name_of(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}
    return {name: imports_of(name, path, modules.keys()) for name, path in modules.items()}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(name: str, path: Path, modules: set[str]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = name.split(".")[: len(name.split(".")) - node.level + (path.name == "__init__.py")]
            source = ".".join([*(parts if node.level else ()), *([node.module] if node.module else ())])
            for alias in node.names:
                submodule = f"{source}.{alias.name}"
                found.add(submodule if submodule in modules else source)
    return (found & modules) - {name}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


@cache
def allowed() -> dict[str, set[str]]:
    """By room what it may import, from the table in CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w_]+)/?` \|.*\|([^|]*)\|$", text, flags=re.MULTILINE)
    return {room: set(re.findall(r"`([\w_]+)`", rooms)) for room, rooms in rows}


def test_no_two_modules_import_each_other():
    """A circle means that neither can be read, tested or reused without the other."""
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        pytest.fail(f"These modules import each other in a circle: {' -> '.join(error.args[1])}.")


def test_every_room_is_in_the_table():
    """Otherwise nobody has said what it may import."""
    rooms = {room_of(module) for module in imports()} - {"__init__"}  # which names what is public, from everywhere
    assert rooms <= allowed().keys()


def test_a_room_imports_only_what_the_table_allows():
    """Otherwise a lower room depends on an upper one, and neither can be changed alone."""
    wrong = [
        f"{module} imports {imported}"
        for module in sorted(imports())
        for imported in sorted(imports()[module])
        if room_of(module) != "__init__"
        and room_of(imported) not in allowed().get(room_of(module), set()) | {room_of(module)}
    ]
    assert not wrong, "The table in CONTRIBUTING.md does not allow this."


@pytest.mark.parametrize("name", sharpness.names())
def test_every_rule_has_a_file_of_its_name(name):
    assert sharpness.SharpnessRule.registry[name].__module__ == f"{PACKAGE}.sharpness.rules.{name}"


@pytest.mark.parametrize("name", objectives.names())
def test_every_objective_has_a_file_of_its_name(name):
    assert objectives.Objective.registry[name].__module__ == f"{PACKAGE}.objectives.{name}"


@pytest.mark.parametrize("name", objectives.long_tail.names())
def test_every_loss_for_long_tails_has_a_file_of_its_name(name):
    assert type(objectives.long_tail.create(name, [1, 1])).__module__ == f"{PACKAGE}.objectives.long_tail.{name}"
