"""A landscape is the loss on a plane around the parameters, scaled so that two of them can be compared."""

import pytest
import torch
from support.progress import progress_in
from torch import nn

from hf_sharp_prompt import progress
from hf_sharp_prompt.sharpness import landscape


class Model(nn.Module):
    """Parameters with filters of different norms; the loss tells where they are."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.context = nn.Parameter(scale * torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]], dtype=torch.float64))
        self.bias = nn.Parameter(scale * torch.tensor([1.0, -1.0], dtype=torch.float64))
        self.scale = nn.Parameter(scale * torch.tensor(2.0, dtype=torch.float64))

    def flat(self) -> torch.Tensor:
        return torch.cat([self.context.reshape(-1), self.bias, self.scale.reshape(1)])


WEIGHTS = torch.arange(1.0, 10.0, dtype=torch.float64)
BATCHES = [torch.zeros(2)]


def loss(model: Model, batch: torch.Tensor) -> torch.Tensor:
    return (WEIGHTS * model.flat()).sum() + model.flat().square().sum()


def test_every_point_is_the_loss_there():
    model = Model()
    drawn = landscape(model, BATCHES, loss=loss, span=0.5, points=5)
    assert drawn.coordinates.tolist() == [-0.5, -0.25, 0.0, 0.25, 0.5]
    first, second = drawn.directions
    flat = model.flat().detach()
    for i, a in enumerate(drawn.coordinates):
        for j, b in enumerate(drawn.coordinates):
            point = flat + a * first + b * second
            assert drawn.losses[i, j] == pytest.approx(
                float((WEIGHTS * point).sum() + point.square().sum()), rel=1e-12
            )


def test_each_filter_of_a_direction_has_the_norm_of_the_parameters_filter():
    for direction in landscape(Model(), BATCHES, loss=loss, points=2).directions:
        context, bias, scale = direction[:6].view(3, 2), direction[6:8], direction[8:]
        assert context.norm(dim=1).tolist() == pytest.approx([5.0, 0.5, 0.0])
        assert float(bias.norm()) == pytest.approx(2**0.5)
        assert float(scale.norm()) == pytest.approx(2.0)


def test_the_same_seed_goes_the_same_way_at_another_scale():
    """Otherwise two adapters' pictures would differ for what was drawn, not for what they are."""
    one, ten, other = (
        landscape(Model(scale), BATCHES, loss=loss, points=2, seed=seed).directions[0]
        for scale, seed in ((1, 0), (10, 0), (1, 1))
    )
    torch.testing.assert_close(10 * one, ten)
    assert not torch.equal(one, other)


def test_directions_can_be_another_landscapes():
    drawn = landscape(Model(), BATCHES, loss=loss, points=2)
    again = landscape(Model(10), BATCHES, loss=loss, points=2, directions=drawn.directions)
    assert all(torch.equal(mine, its) for mine, its in zip(again.directions, drawn.directions))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="two flat vectors of the 9 parameters' length, got shapes"):
        landscape(Model(), BATCHES, loss=loss, directions=[torch.zeros(9), torch.zeros(8)])
    with pytest.raises(ValueError, match="two flat vectors"):
        landscape(Model(), BATCHES, loss=loss, directions=[torch.zeros(9)])
    with pytest.raises(ValueError, match="span must be positive"):
        landscape(Model(), BATCHES, loss=loss, span=0)
    with pytest.raises(ValueError, match="points must be at least 2"):
        landscape(Model(), BATCHES, loss=loss, points=1)


def test_it_says_how_far_it_is(monkeypatch, capsys):
    """Hundreds of losses over all images take minutes."""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with progress.shown():
        landscape(Model(), BATCHES, loss=loss, points=2)
    said = progress_in(capsys.readouterr().err)
    assert said == [{"stage": "mapping", "done": done, "total": 4} for done in range(4)]
