"""Scripts as `python script.py …` runs them, in this process: to start Python for one takes longer than most run."""

import os
import runpy
import sys
from pathlib import Path

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_simple_launcher_cmd_env


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


def as_launched(*words: object) -> tuple[list[str], dict[str, str]]:
    """What `accelerate launch` with these words starts: the command of its only process, and the environment it adds.

    The launcher is asked in this process; started, it imports torch for the sake of these two.
    """
    args, *_ = _validate_launch_command(launch_command_parser().parse_args([*map(str, words)]))
    command, environment = prepare_simple_launcher_cmd_env(args)
    return command, {name: value for name, value in environment.items() if os.environ.get(name) != value}
