"""The figures are there, and what they compare is drawn on one scale."""

import pytest
import torch
from matplotlib.figure import Figure

from hf_sharp_prompt.plots import (
    plot_accuracy_by_epoch,
    plot_accuracy_by_group,
    plot_accuracy_by_shots,
    plot_landscapes,
)
from hf_sharp_prompt.sharpness import Landscape


def bowl(depth: float, points: int = 7) -> Landscape:
    coordinates = torch.linspace(-1, 1, points, dtype=torch.float64)
    losses = coordinates[:, None] ** 2 + 2 * coordinates**2 - depth
    return Landscape(losses, coordinates, (torch.zeros(3), torch.zeros(3)))


@pytest.fixture
def figure(monkeypatch) -> list[Figure]:
    """The figure that was saved."""
    saved = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **kwargs: (saved.append(self), save(self, *args, **kwargs))
    )
    return saved


def test_landscapes_share_a_colour_scale(figure, tmp_path):
    """Two pictures with separate scales would look equally sharp."""
    plot_landscapes({"CoOp": bowl(0), "GCSCoOp": bowl(1)}, tmp_path / "landscapes.png", title="a task")
    assert (tmp_path / "landscapes.png").read_bytes().startswith(b"\x89PNG")
    *landscapes, bar = figure[0].axes
    assert [axes.get_title() for axes in landscapes] == ["CoOp", "GCSCoOp"]
    levels = [axes.collections[0].levels.tolist() for axes in landscapes]
    assert levels[0] == levels[1]
    assert levels[0][0] <= -1
    assert levels[0][-1] >= 3
    assert bar.get_ylabel() == "loss"


def test_a_landscape_may_be_cut_off_or_have_holes(figure, tmp_path):
    flawed = bowl(0)
    flawed.losses[0, 0], flawed.losses[1, 1] = torch.inf, torch.nan
    plot_landscapes({"one": flawed}, tmp_path / "one.png", highest=1.0)
    assert figure[0].axes[0].collections[0].levels[-1] == pytest.approx(1.0)
    constant = Landscape(torch.ones(3, 3), torch.linspace(-1, 1, 3), (torch.zeros(3), torch.zeros(3)))
    plot_landscapes({"flat": constant}, tmp_path / "flat.png")


def test_nothing_to_plot_is_said(tmp_path):
    for landscapes, highest in (({}, torch.inf), ({"one": bowl(0)}, -1.0)):
        with pytest.raises(ValueError, match="nothing to plot"):
            plot_landscapes(landscapes, tmp_path / "none.png", highest=highest)
    assert not (tmp_path / "none.png").exists()


def test_accuracies_by_epoch_share_their_axes(figure, tmp_path):
    """On scales of their own, base and novel classes would look equally hard."""
    learned = [{"base": [0.5, 0.9], "novel": [0.5, 0.4]}]
    once = [{"base": [0.8], "novel": [0.3]}]
    histories = {"zero-shot": [{"base": [0.6], "novel": [0.7]}], "coop": learned, "measured once": once}
    plot_accuracy_by_epoch(histories, tmp_path / "a.png", title="a task")
    base, novel = figure[0].axes
    assert base.get_ylim() == novel.get_ylim()
    zero_shot, coop, single = base.lines
    assert zero_shot.get_linestyle() == "--"
    assert coop.get_marker() == "None"
    assert (single.get_marker(), single.get_xydata().tolist()) == ("o", [[2.0, 80.0]]), "else one point is not seen"


def test_a_run_of_one_epoch_is_seen(figure, tmp_path):
    plot_accuracy_by_epoch({"coop": [{"base": [0.8], "novel": [0.3]}]}, tmp_path / "a.png")
    assert figure[0].axes[0].lines[0].get_marker() == "o"


def test_the_curve_over_shots_is_drawn_where_there_are_results(figure, tmp_path):
    """All shots stand last, and a method with one number of shots is a point."""
    accuracies = {
        "zero-shot": {"1": [0.4], "all": [0.4]},
        "coop": {"1": [0.5, 0.7], "16": [0.8], "all": [0.9]},
        "gcscoop": {"16": [0.7]},
    }
    plot_accuracy_by_shots(accuracies, ["1", "16", "all"], tmp_path / "a.png", title="pets")
    (axes,) = figure[0].axes
    zero_shot, coop, gcscoop = axes.lines
    assert zero_shot.get_linestyle() == "--"
    assert coop.get_xydata().tolist() == [[0, pytest.approx(60)], [1, 80], [2, 90]]
    assert (gcscoop.get_marker(), gcscoop.get_xydata().tolist()) == ("o", [[1, pytest.approx(70)]])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "16", "all"]


def test_bars_may_be_of_any_groups(figure, tmp_path):
    results = {"coop": [{"source": 0.5, "target b": None}, {"source": 0.7, "target b": None}]}
    plot_accuracy_by_group(results, tmp_path / "a.png", groups={"a": "source", "b": "target b"})
    (axes,) = figure[0].axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]
    assert axes.patches[0].get_height() == pytest.approx(60)
