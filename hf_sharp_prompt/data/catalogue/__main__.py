"""Check the catalogue against the Hub, or the data sets in a folder against the papers.

    python -m hf_sharp_prompt.data.catalogue
    python -m hf_sharp_prompt.data.catalogue oxford_pets eurosat --data_root ~/data

For each data set, a line says whether it is as the catalogue describes it, or what is not. The exit status is 1 if
anything is not, or could not be seen.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi

from . import CatalogueEntry, find_entry, names
from .check import CardReader, check_in_folder, check_on_hub


def main(arguments: Sequence[str] | None = None, api: CardReader | None = None) -> int:
    """Check data sets, and print what is found.

    Args:
        arguments: Of the command; by default those it was called with.
        api: What is asked instead of the Hub.

    Returns:
        The exit status: 0 if all is as the catalogue says.
    """
    parser = argparse.ArgumentParser(
        prog="python -m hf_sharp_prompt.data.catalogue", description=__doc__.split("\n")[0]
    )
    parser.add_argument("dataset", nargs="*", help="Names of data sets. Default: all.")
    parser.add_argument("--data_root", help="Check the folders in this one instead of the Hub.")
    args = parser.parse_args(arguments)
    if unknown := [name for name in args.dataset if name not in names()]:
        parser.error(f"The catalogue has no {unknown[0]}; it has {', '.join(names())}.")
    entries = [find_entry(name) for name in args.dataset or names()]
    if args.data_root is not None:
        there = [entry for entry in entries if args.dataset or _is_in(args.data_root, entry)]
        wrong = {entry.name: check_in_folder(entry, args.data_root) for entry in there}
    else:
        api = api or HfApi()
        wrong = {entry.name: check_on_hub(entry, api) for entry in entries if entry.source}
        for entry in entries:
            if not entry.source:
                print(f"{entry.name}: not on the Hub. {entry.note or ''}".rstrip())
    for name, sentences in wrong.items():
        print(f"{name}: {' '.join(sentences) or 'as described'}")
    return int(any(wrong.values()))


def _is_in(data_root: str, entry: CatalogueEntry) -> bool:
    return any((Path(data_root).expanduser() / folder).is_dir() for folder in entry.folders)


if __name__ == "__main__":
    sys.exit(main())
