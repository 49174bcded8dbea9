"""What a script says when something fails: one sentence about a wrong argument, a traceback of a bug."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from typing import NoReturn, TextIO

import yaml

from .. import progress
from ..printable import printable


FAILED, WRONG_ARGUMENTS, INTERRUPTED, NOT_READ = 1, 2, 130, 141
"""Exit codes: a run failed; an argument is wrong and nothing has run; Ctrl-C was pressed; and nobody reads the output
any more, which in shells is 128 + SIGPIPE."""


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

    Nothing is said when nobody reads what it prints any more.

    Args:
        main: The script; it returns its exit code.
        when_interrupted: What Ctrl-C means for what it did so far.
    """
    try:
        try:
            with progress.shown():
                return main()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        message, code = f"Interrupted. {when_interrupted}".rstrip(), INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and discard_what_is_not_read():
            return NOT_READ
        if not isinstance(error, users_errors()):
            raise
        message, code = in_one_sentence(error), WRONG_ARGUMENTS
    if os.environ.get("RANK", "0") == "0":
        print(message, file=sys.stderr)
    return code


def discard_what_is_not_read() -> bool:
    """Let output whose reader has ended go nowhere, and tell whether there is any: other pipes may break, too."""
    broken = [file for file in (sys.stdout, sys.stderr) if has_lost_its_reader(file)]
    for file in broken:
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
    return bool(broken)


def has_lost_its_reader(file: TextIO) -> bool:
    """Whether a file is a pipe whose other end is closed."""
    poll = select.poll()
    poll.register(file, 0)
    return bool(poll.poll(0))


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
