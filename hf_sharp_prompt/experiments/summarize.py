"""The command `sharp-prompt summarize`: tables and figures of all results in directories.

    sharp-prompt summarize runs
    sharp-prompt summarize runs/base2novel other_machine/base2novel --format latex --output_dir paper

The directories may hold any protocols, data sets, methods and seeds; the same experiment in several of them is one
table. Figures that papers publish stand beside what was measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..files import written_whole
from .figures import draw_by_epoch, draw_by_group, draw_by_shots
from .summary import CURVE, Group, curve_title, curves_of, gather, make_tables, mean_groups
from .table_formats import ENDINGS, FORMATS


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="sharp-prompt summarize"
    )
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIR", help="an output directory, or several")
    parser.add_argument("--format", choices=list(FORMATS), default="markdown", help="of the tables (%(default)s)")
    parser.add_argument(
        "--output_dir", type=Path, help="write tables.md, .tex or .csv and the figures there instead of printing"
    )
    args = parser.parse_args(list(argv))
    groups = gather(args.directories)
    if not groups:
        raise ValueError(
            f"There are no results in {', '.join(map(str, args.directories))}; give the output directory of "
            "experiments. One of an older version is described once its command is run again; finished runs stay."
        )
    text = FORMATS[args.format](make_tables(groups))
    if args.output_dir is None:
        print(text, end="")
        return 0
    tables = args.output_dir / f"tables.{ENDINGS[args.format]}"
    with written_whole(tables) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    figures = draw_all(groups, args.output_dir)
    print(f"Written: {', '.join(map(str, [tables, *figures]))}.")
    return 0


def draw_all(groups: Sequence[Group], directory: Path) -> list[Path]:
    """Draw each experiment's figure, and each curve's; returns the files."""
    written: list[Path] = []
    own = [group for group in groups if group.protocol == CURVE]
    for curve in curves_of([*own, *mean_groups(own)]):
        title = curve_title(curve)
        written.append(directory / file_name(CURVE, title))
        draw_by_shots({shots: group.results for shots, group in curve.items()}, written[-1], title)
    for group in groups:
        path = directory / file_name(group.protocol, group.title)
        if group.protocol == "base2novel":
            draw_by_epoch(group.results, path, group.title)
        elif group.protocol != CURVE:
            draw_by_group(group.results, without_calibration(group.columns), path, group.title)
        written.append(path)
    return [path for path in written if path.is_file()]


def without_calibration(columns: Mapping[str, str]) -> dict[str, str]:
    """The columns that are accuracies."""
    return {heading: key for heading, key in columns.items() if key != "ece"}


def file_name(protocol: str, title: str) -> str:
    """The name of a figure's file: words between underscores."""
    words = "".join(sign if sign.isalnum() or sign in "._-" else " " for sign in f"{protocol} {title}").split()
    return f"{'_'.join(words)}.png"
