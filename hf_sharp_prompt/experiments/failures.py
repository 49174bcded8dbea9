"""What a script says when something fails: one sentence about a wrong argument, a traceback of a bug."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

import yaml

from .. import progress
from ..printable import printable


FAILED, WRONG_ARGUMENTS, INTERRUPTED = 1, 2, 130
"""Exit codes: a run failed, an argument is wrong and nothing has run, and Ctrl-C was pressed."""


IN_WORKER = "in DataLoader worker process"
"""What torch writes into the message of an error in a worker, followed by its traceback."""


def is_users_error(error: BaseException) -> bool:
    """True if the error is about what a script was given; others are bugs."""
    return isinstance(error, users_errors()) and not isinstance(error, UnicodeError)


def users_errors() -> tuple[type[Exception], ...]:
    """The errors that are about what a script was given."""
    from datasets.exceptions import DatasetsError  # Its import takes a second, which a command without errors saves.

    return ValueError, OSError, DatasetsError, yaml.YAMLError


def in_one_sentence(error: BaseException) -> str:
    """What an error says, on one line and without control characters."""
    words = printable(" ".join(_message_of(error).split()))
    return words if words and is_users_error(error) else f"{type(error).__name__}: {words or 'no message'}"


def _message_of(error: BaseException) -> str:
    """What an error says; of one in a data loader's worker, what it said there, without the traceback around it."""
    message = str(error)
    return message.rpartition(f"\n{type(error).__name__}: ")[2] if IN_WORKER in message else message


CONTINUES = "The same command continues where it stopped."
"""What is true of an interrupted command that trains."""


def exit_code_of(main: Callable[[], int], when_interrupted: str = CONTINUES) -> int:
    """Run a script and show its progress; say what is wrong with its arguments in one sentence, once for all.

    Args:
        main: The script; it returns its exit code.
        when_interrupted: What Ctrl-C means for what it did so far.
    """
    try:
        with progress.shown():
            return main()
    except KeyboardInterrupt:
        message, code = f"Interrupted. {when_interrupted}".rstrip(), INTERRUPTED
    except Exception as error:
        if not isinstance(error, users_errors()):
            raise
        message, code = in_one_sentence(error), WRONG_ARGUMENTS
    if os.environ.get("RANK", "0") == "0":
        print(message, file=sys.stderr)
    return code


def run_script(main: Callable[[], int], when_interrupted: str = CONTINUES) -> NoReturn:
    """Run a script, end the group of processes that it formed, and exit.

    Args:
        main, when_interrupted: As for [`exit_code_of`].
    """
    code = exit_code_of(main, when_interrupted)
    if "torch" in sys.modules:  # A command that does not train does without.
        import torch

        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    sys.exit(code)
