"""Scripts as `python script.py …` runs them, in this process: to start Python for one takes longer than most run."""

import runpy
import sys
from pathlib import Path

import pytest


def run_script(script: Path, *words: object) -> int:
    """Run a script as the main program with these words behind its name, and return its exit code.

    What it prints is the test's, to be read with `capsys`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(script), *map(str, words)])
        patch.syspath_prepend(script.parent)
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0
