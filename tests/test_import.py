"""What `import hf_sharp_prompt` adds to the libraries that it builds on."""

import importlib
import sys

import transformers
from support.forks import run_fork

import hf_sharp_prompt


HEAVY = ("evaluate", "scipy", "requests", "matplotlib", "gradio", "onnx", "rich")


def is_heavy(module: str) -> bool:
    """Whether a module takes tens of milliseconds or more and is needed by few of those who import the package."""
    return module.partition(".")[0] in HEAVY or (".modeling_" in module and module.startswith("transformers.models."))


def test_the_import_leaves_heavy_modules_for_when_they_are_used():
    """`import hf_sharp_prompt` took 0.6 s, of which 0.4 s were SciPy for metrics and models that nobody had loaded."""
    assert run_fork(import_again) == 0


def import_again() -> None:
    for name in [name for name in sys.modules if is_heavy(name) or name.startswith("hf_sharp_prompt")]:
        del sys.modules[name]
    for name, value in list(vars(transformers).items()):  # which keeps the classes that were imported
        if ".modeling_" in str(getattr(value, "__module__", "")):
            delattr(transformers, name)
    again = importlib.import_module("hf_sharp_prompt")
    assert again is not hf_sharp_prompt, "else nothing was imported"
    imported = sorted(filter(is_heavy, sys.modules))
    assert not imported, f"{len(imported)} modules, of which the first are {imported[:3]}"
