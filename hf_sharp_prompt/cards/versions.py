"""The versions of the packages that made an adapter."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version


PACKAGES = ("hf-sharp-prompt", "peft", "transformers", "accelerate", "datasets", "torch")


def installed_versions() -> dict[str, str]:
    """Return by name the version of Python and of each package that matters."""
    return {"python": platform.python_version(), **{package: _version(package) for package in PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # A checkout is on the path, but not installed.
        return "of unknown version"
