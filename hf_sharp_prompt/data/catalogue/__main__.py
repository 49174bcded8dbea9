"""Check the catalogue against the Hub, or the data sets in a folder against the papers.

    python -m hf_sharp_prompt.data.catalogue
    python -m hf_sharp_prompt.data.catalogue oxford_pets eurosat --data_root ~/data

For each data set, a line says whether it is as the catalogue describes it, and further lines what is not. The exit
status is 1 if anything is not, or could not be seen.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi

from . import find_entry, names
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
    api = api or HfApi()
    failed = False
    for name in args.dataset or names():
        entry = find_entry(name)
        if args.data_root is not None:
            if not args.dataset and not any(
                (Path(args.data_root).expanduser() / each).is_dir() for each in entry.folders
            ):
                continue  # without names, the data sets that are there
            wrong = check_in_folder(entry, args.data_root)
        elif not entry.source:
            print(f"{name}: not on the Hub. {entry.note or ''}".rstrip())
            continue
        else:
            wrong = check_on_hub(entry, api)
        print(f"{name}: {'as described' if not wrong else ' '.join(wrong)}")
        failed = failed or bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
