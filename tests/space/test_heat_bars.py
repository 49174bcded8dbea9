"""How answers are drawn and written: names are text, whatever they hold."""

import csv

import torch

from hf_sharp_prompt.space.csv_file import write_csv
from hf_sharp_prompt.space.heat_bars import MOST_ROWS, draw_heat_bars
from hf_sharp_prompt.space.prompts import Answer


HOSTILE = "<img src=x onerror=alert(1)>'\"&\x1b[31m"


def answers(*shares: list[list[float]]) -> list[Answer]:
    return [Answer(f"prompt {number}", "CoOp", torch.tensor(each)) for number, each in enumerate(shares)]


def test_names_are_escaped_wherever_they_stand():
    """Class names come with adapters from the Hub, and are typed by anybody on a public page."""
    drawn = draw_heat_bars([HOSTILE, "ring"], [Answer(HOSTILE, HOSTILE, torch.tensor([[0.9, 0.1]]))])
    assert "<img" not in drawn
    assert "\x1b" not in drawn
    assert drawn.count("&lt;img src=x onerror=alert(1)&gt;&#x27;&quot;&amp;\\x1b[31m") == 3


def test_each_prompts_best_class_is_marked_and_bars_are_as_long_as_the_shares():
    drawn = draw_heat_bars(["ring", "star"], answers([[0.25, 0.75]], [[0.6, 0.4]]))
    assert drawn.index(">star<") < drawn.index(">ring<"), "the class with the highest share of all is first"
    cells = drawn.split("<td")[1:]
    assert [" class='best'" in cell for cell in cells] == [True, False, False, True]
    assert all(f"width: {share}%" in cell for share, cell in zip((75.0, 40.0, 25.0, 60.0), cells, strict=True))


def test_of_many_classes_the_most_probable_are_drawn():
    shares = torch.arange(MOST_ROWS + 3).float().softmax(0)[None]
    drawn = draw_heat_bars([f"class {number}" for number in range(MOST_ROWS + 3)], [Answer("coop", "CoOp", shares)])
    assert drawn.count("<tr>") == 1 + MOST_ROWS
    assert f">class {MOST_ROWS + 2}<" in drawn
    assert ">class 2<" not in drawn
    assert "3 less probable classes are not shown." in drawn


def test_csv_has_a_row_for_each_image_prompt_and_class(tmp_path):
    write_csv(
        tmp_path / "out.csv",
        ["a.png", "b\n.png"],
        ["ring", HOSTILE],
        answers([[0.25, 0.75], [1.0, 0.0]], [[0.5, 0.5], [0.4, 0.6]]),
    )
    header, *rows = csv.reader((tmp_path / "out.csv").open(encoding="utf-8", newline=""))
    assert header == ["image", "prompt", "rank", "label", "score"]
    hostile = HOSTILE.replace("\x1b", "\\x1b")
    assert rows[:4] == [
        ["a.png", "prompt 0", "1", hostile, "0.750000"],
        ["a.png", "prompt 0", "2", "ring", "0.250000"],
        ["a.png", "prompt 1", "1", "ring", "0.500000"],
        ["a.png", "prompt 1", "2", hostile, "0.500000"],
    ]
    assert [row[0] for row in rows[4:]] == ["b\\n.png"] * 4
