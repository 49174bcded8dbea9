"""Whether the optional packages that something needs are installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec


def check_installed(purpose: str, extras: Mapping[str, Sequence[str]]) -> None:
    """Check that packages are installed, before anything is computed that would be lost without them.

    Args:
        purpose: What needs them, as the beginning of a sentence.
        extras: The name of an extra of this package → the packages of it that are needed.

    Raises:
        ValueError: One is not installed.
    """
    for extra, packages in extras.items():
        for package in packages:
            if find_spec(package) is None:
                raise ValueError(
                    f'{purpose} needs {package}, which is not installed; pip install "hf-sharp-prompt[{extra}]".'
                )
