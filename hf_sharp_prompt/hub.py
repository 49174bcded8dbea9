"""Describe the Hub's answers, and repeat requests that may succeed later."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from huggingface_hub import get_session
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, OfflineModeIsEnabled


logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds to wait before each further attempt."""

LONGEST_WAIT = 300.0
"""Seconds that a server may ask to wait for; after a longer time the user had better try again."""

PATIENCE = 60.0
"""Seconds without a byte after which a connection is given up. The client itself would wait for ever."""

TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses after which the same request may succeed."""


def what_the_hub_said(error: BaseException) -> str:
    """Say why a request failed, on one line: the server's status and message if it answered.

    Args:
        error: The error of `huggingface_hub`, or one that was raised from it.
    """
    answered = next((each for each in _causes(error) if isinstance(each, HfHubHTTPError)), None)
    if answered is not None and getattr(answered, "response", None) is not None:
        response, words = answered.response, getattr(answered, "server_message", None)
        asked = f"{response.request.method} {response.request.url.copy_with(query=None)}"
        return f"the Hub answered {response.status_code}{f' ({_one_line(words)})' if words else ''} to {asked}"
    if any(isinstance(each, OfflineModeIsEnabled) for each in _causes(error)):
        return "the Hub was not asked, as HF_HUB_OFFLINE is set"
    if isinstance(error, EntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    words = _one_line(str(error)) or "the Hub gave no answer"
    return f"{type(error).__name__}: {words}"


def is_temporary(error: BaseException) -> bool:
    """Tell whether the same request may succeed later: the server is busy or failing, or the connection broke."""
    for each in _causes(error):
        if isinstance(each, OfflineModeIsEnabled):
            return False
        if isinstance(each, HfHubHTTPError) and getattr(each, "response", None) is not None:
            return each.response.status_code in TEMPORARY
    modules = {base.__module__.partition(".")[0] for each in _causes(error) for base in type(each).__mro__}
    return any(isinstance(each, ConnectionError | TimeoutError) for each in _causes(error)) or bool(
        modules & {"httpx", "httpx2"}
    )


def ask_again(request: Callable[[], Answer], what: str, waits: tuple[float, ...] = WAITS) -> Answer:
    """Make a request, and repeat it after a while if it may succeed later.

    Args:
        request: The request. Making it twice must do no harm.
        what: The request in words, for the log: "Creating the repository pets".
        waits: Seconds to wait before each further attempt, or longer if the Hub asks for it.

    Raises:
        HfHubHTTPError: The Hub refuses, or still fails at the last attempt. Errors of the connection are raised, too.
    """
    for shortest in waits:
        try:
            with _giving_up_silent_connections():
                return request()
        except Exception as error:
            wait = max(shortest, _asked_wait(error))
            if not is_temporary(error) or wait > LONGEST_WAIT:
                raise
            logger.warning(f"{what} failed: {what_the_hub_said(error)}. Trying again in {wait:g} s.")
            time.sleep(wait)
    with _giving_up_silent_connections():
        return request()


@contextmanager
def _giving_up_silent_connections() -> Iterator[None]:
    """Let the client's requests end after `PATIENCE`, unless they have a limit of their own."""
    client = get_session()
    before = client.timeout
    if before.read is None:
        client.timeout = PATIENCE
    try:
        yield
    finally:
        client.timeout = before


def _asked_wait(error: BaseException) -> float:
    """The seconds after which the server wants to be asked again; 0 if it does not say."""
    for each in _causes(error):
        if isinstance(each, HfHubHTTPError) and getattr(each, "response", None) is not None:
            seconds = each.response.headers.get("Retry-After", "")
            return float(seconds) if seconds.isdecimal() else 0.0
    return 0.0


def _causes(error: BaseException | None) -> list[BaseException]:
    """List an error and the errors that led to it."""
    causes: list[BaseException] = []
    while error is not None and error not in causes:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes


def _one_line(text: str) -> str:
    return " ".join(text.split())
