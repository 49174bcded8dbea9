"""What a single call asks of a prompted model besides its tensors.

Another adapter, other classes, a context for each image: such things travel in a `contextvars.ContextVar`, by owner,
and never stand on a module. So any number of threads or asyncio tasks can use one model, each in its own way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from types import MappingProxyType
from typing import Any


Key = tuple[Any, str]
_ASKED: ContextVar[Mapping[Key, Any]] = ContextVar("hf_sharp_prompt_call", default=MappingProxyType({}))

# The names that any thread asks for. `torch.compile` can trace this check, but not a ContextVar.
_in_use: dict[str, bool] = {}
_open_blocks: Counter[str] = Counter()
_lock = Lock()


@contextmanager
def asking(values: Mapping[Key, Any]) -> Iterator[None]:
    """Within the block, and in this thread only, ask for these values.

    Args:
        values: The values, by owner and name. An owner is an object that is compared by identity, such as a module.
            None takes back what an outer block asks for.
    """
    names = {name for _, name in values}
    _count(names, 1)
    token = _ASKED.set({**_ASKED.get(), **values})
    try:
        yield
    finally:
        _ASKED.reset(token)
        _count(names, -1)


def asked(owner: Any, name: str) -> Any:
    """Return the value that this call asks of an owner, or None."""
    return _ASKED.get().get((owner, name)) if _in_use.get(name) else None


def _count(names: set[str], change: int) -> None:
    with _lock:
        for name in names:
            _open_blocks[name] += change
            _in_use[name] = _open_blocks[name] > 0
