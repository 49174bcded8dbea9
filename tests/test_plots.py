"""The figures are there, and what they compare is drawn on one scale."""

import pytest
import torch
from matplotlib.figure import Figure

from hf_sharp_prompt.plots import plot_landscapes
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
