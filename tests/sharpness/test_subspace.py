"""SubPT's subspace is the principal components', and projecting onto it is a projection."""

import pytest
import torch
from sklearn.decomposition import PCA

from hf_sharp_prompt.sharpness.subspace import Subspace


def snapshots(count: int = 12, dim: int = 40) -> torch.Tensor:
    """A path: steps of one prevailing direction and noise."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(count, dim, generator=generator, dtype=torch.float64) + torch.linspace(0, 2, dim)
    return steps.cumsum(0) + 100  # far from the origin, so that centring matters


def test_components_are_those_of_scikit_learn():
    """Up to their signs, which no projection sees."""
    path = snapshots()
    ours, theirs = Subspace.of(path, 5), PCA(5, svd_solver="full").fit(path.numpy())
    signs = (ours.components * torch.from_numpy(theirs.components_)).sum(1).sign()
    torch.testing.assert_close(
        signs[:, None] * ours.components, torch.from_numpy(theirs.components_), atol=1e-10, rtol=0
    )
    torch.testing.assert_close(
        ours.explained_variance_ratio, torch.from_numpy(theirs.explained_variance_ratio_), atol=1e-12, rtol=0
    )


def test_a_projection_keeps_what_lies_in_the_subspace_and_nothing_else():
    subspace = Subspace.of(snapshots(), 4)
    inside = torch.randn(4, dtype=torch.float64) @ subspace.components
    direction = torch.randn(40, dtype=torch.float64)
    torch.testing.assert_close(subspace.project(inside), inside)
    projected = subspace.project(direction)
    torch.testing.assert_close(subspace.project(projected), projected)
    torch.testing.assert_close(subspace.components @ (direction - projected), torch.zeros(4, dtype=torch.float64))


def test_the_path_itself_lies_in_a_subspace_of_full_rank():
    path = snapshots(6)
    moved = path[-1] - path[0]
    torch.testing.assert_close(Subspace.of(path, 5).project(moved), moved)


def test_single_precision_snapshots_are_analysed_in_double():
    """Prompts move little compared with their size."""
    path = snapshots() * 1e-3 + 1
    exact, single = Subspace.of(path, 3), Subspace.of(path.float(), 3)
    assert single.components.dtype == torch.float32
    direction = torch.randn(40, dtype=torch.float64)
    torch.testing.assert_close(single.project(direction), exact.project(direction), atol=1e-3, rtol=0)


def test_a_path_that_did_not_move_explains_nothing():
    subspace = Subspace.of(torch.ones(5, 8), 2)
    assert subspace.explained_variance_ratio.tolist() == [0, 0]
    assert subspace.project(torch.ones(8)).isfinite().all()


@pytest.mark.parametrize(("count", "rank", "highest"), [(10, 10, 9), (10, 11, 9), (3, 0, 2), (50, 45, 40)])
def test_a_rank_that_the_snapshots_cannot_have(count, rank, highest):
    with pytest.raises(ValueError, match=f"rank {rank} cannot be found from {count} snapshots .* at most {highest}"):
        Subspace.of(snapshots(count), rank)
