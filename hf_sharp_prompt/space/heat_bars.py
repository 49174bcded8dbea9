"""Answers of prompts side by side, as HTML: a row for each class, a column for each prompt, a bar for each share."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..printable import printable
from .prompts import Answer


MOST_ROWS = 10
"""How many classes are shown: the most probable ones under any prompt."""

STYLE = """
.heat-bars { width: 100%; border-collapse: collapse; border: 0 !important; }
.heat-bars th, .heat-bars td { text-align: left; padding: 0.3em 0.6em !important; border: 0 !important; }
.heat-bars tr { border: solid rgba(128, 128, 128, 0.25) !important; border-width: 0 0 1px !important; }
.heat-bars thead small { display: block; font-weight: 400; opacity: 0.7; }
.heat-bars td { min-width: 7em; }
.heat-bars .track { display: block; height: 0.6em; border-radius: 0.3em; background: rgba(128, 128, 128, 0.18); }
.heat-bars .bar { display: block; height: 100%; border-radius: 0.3em; }
.heat-bars .best { font-weight: 700; }
"""


def draw_heat_bars(class_names: Sequence[str], answers: Sequence[Answer]) -> str:
    """Draw what prompts say about one image.

    Names are escaped: they are those of whoever opens the page, or come from the Hub.

    Args:
        class_names: The classes.
        answers: The prompts' answers, to one image.
    """
    shares = [answer.probabilities[0].tolist() for answer in answers]
    order = sorted(range(len(class_names)), key=lambda row: max(each[row] for each in shares), reverse=True)
    heads = "".join(f"<th>{_text(each.prompt)}<small>{_text(each.method)}</small></th>" for each in answers)
    rows = "".join(
        f"<tr><th>{_text(class_names[row])}</th>{''.join(_bar(each[row], max(each)) for each in shares)}</tr>"
        for row in order[:MOST_ROWS]
    )
    hidden = len(order) - MOST_ROWS
    rest = f"<p>{hidden} less probable classes are not shown.</p>" if hidden > 0 else ""
    return (
        f"<style>{STYLE}</style><table class='heat-bars'><thead><tr><th>class</th>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table>{rest}"
    )


def _bar(share: float, highest: float) -> str:
    hue = 220 * (1 - share)  # from blue, cold, to red
    best = " class='best'" if share == highest else ""
    return (
        f"<td{best}>{100 * share:.1f} %<span class='track'><span class='bar' "
        f"style='width: {100 * share:.1f}%; background: hsl({hue:.0f}, 70%, 50%)'></span></span></td>"
    )


def _text(name: str) -> str:
    return escape(printable(name))
