"""Tables of results as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from statistics import mean, stdev

from ..printable import printable
from .results import in_percent
from .summary import SummaryTable


SMOKE = "A smoke test of a few images and epochs: no result."


def as_markdown(tables: Sequence[SummaryTable]) -> str:
    """Tables under headings, with mean ± standard deviation in percent and the number of runs n."""
    return "\n".join(markdown_table(table) for table in tables)


def markdown_table(table: SummaryTable) -> str:
    """One table under its heading."""
    heading, *rows = cells_of(table)
    lines = [f"### {escape_markdown(title_of(table))}", ""]
    lines += [f"| {' | '.join(map(escape_markdown, row))} |" for row in (heading, ["---"] * len(heading), *rows)]
    lines += ["", *(escape_markdown(note) for note in notes_of(table))]
    return "\n".join(lines).rstrip() + "\n"


def as_latex(tables: Sequence[SummaryTable]) -> str:
    r"""Tables for `\usepackage{booktabs}`."""
    return "\n".join(latex_table(table) for table in tables)


def latex_table(table: SummaryTable) -> str:
    """One table with its caption."""
    heading, *rows = cells_of(table)
    columns = f"l{'r' * (len(heading) - 1)}"
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escape_latex(title_of(table))}}}"]
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", latex_row(heading), r"\midrule"]
    lines += [*map(latex_row, rows), r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\small {escape_latex(note)}" for note in notes_of(table)]
    return "\n".join([*lines, r"\end{table}", ""])


def latex_row(cells: Sequence[str]) -> str:
    """A row of a LaTeX table."""
    return " & ".join(map(escape_latex, cells)) + r" \\"


def as_csv(tables: Sequence[SummaryTable]) -> str:
    """One line for each method and column; mean, deviation and published figures in percent, empty if undefined."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["protocol", "table", "method", "column", "mean", "deviation", "n", "published", "smoke"])
    for table in tables:
        for method, row in table.rows.items():
            published = table.published.get(method, [None] * len(row))
            for heading, values, figure in zip(table.headings, row, published, strict=True):
                measured = statistics_of(values)
                cells = ["" if each is None else f"{each:.6g}" for each in (*measured, figure)]
                names = [table.protocol, table.title, method, heading]
                writer.writerow([*map(printable, names), *cells[:2], len(values), cells[2], table.smoke])
    return file.getvalue()


def statistics_of(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and standard deviation in percent; None where they are undefined."""
    defined = [100 * value for value in values if value is not None]
    if not defined or len(defined) < len(values):
        return None, None
    return mean(defined), stdev(defined) if len(defined) > 1 else None


def cells_of(table: SummaryTable) -> list[list[str]]:
    """The heading and the rows as text; published figures are in one last column."""
    known = [
        index
        for index in range(len(table.headings))
        if any(figures[index] is not None for figures in table.published.values())
    ]
    heading = ["method", *table.headings, "n"]
    if known:
        heading.append(f"published {' / '.join(table.headings[index] for index in known)}")
    rows = [heading]
    for method, values in table.rows.items():
        row = [method, *map(in_percent, values), table.count(method)]
        if known:
            figures = table.published.get(method)
            row.append(" / ".join(in_words(figures[index]) for index in known) if figures else "")
        rows.append(row)
    return [[printable(cell) for cell in row] for row in rows]


def in_words(figure: float | None) -> str:
    """A published figure in percent; papers do not publish all."""
    return "–" if figure is None else f"{figure:.1f}"


def title_of(table: SummaryTable) -> str:
    """The protocol and the title."""
    return printable(f"{table.protocol}: {table.title}")


def notes_of(table: SummaryTable) -> list[str]:
    """What stands below a table."""
    notes = [f"Published: {'; '.join(table.sources)}."] if table.sources else []
    return [*notes, SMOKE] if table.smoke else notes


def escape_markdown(text: str) -> str:
    """Text that is no markup; underscores inside of words are none."""
    return re.sub(r"([\\|<>*`\[\]])", r"\\\1", text)


LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--"}


def escape_latex(text: str) -> str:
    """Text that is no LaTeX command."""
    return re.sub(r"[\\~^±–&%$#_{}]", lambda found: LATEX.get(found[0], f"\\{found[0]}"), text)


FORMATS: dict[str, Callable[[Sequence[SummaryTable]], str]] = {
    "markdown": as_markdown,
    "latex": as_latex,
    "csv": as_csv,
}
"""Format → what writes tables in it."""
ENDINGS = {"markdown": "md", "latex": "tex", "csv": "csv"}
"""Format → the ending of a file's name."""
