"""The versions of the packages that made an adapter."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from ..version import __version__


PACKAGES = ("peft", "transformers", "accelerate", "datasets", "torch")


def installed_versions() -> dict[str, str]:
    """Return by name the version of Python, of this package and of each other that matters."""
    ours = {"python": platform.python_version(), "hf-sharp-prompt": __version__}
    return ours | {package: _version(package) for package in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # It is on the path, but not installed.
        return "of unknown version"
