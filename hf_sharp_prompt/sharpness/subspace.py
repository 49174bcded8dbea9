"""The subspace that a run's early steps moved in, to which later directions are confined."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Subspace:
    """The principal components of a run's parameter vectors (SubPT).

    Attributes:
        components: r × dim, orthonormal rows U, by falling variance.
        explained_variance_ratio: r, each component's share of the snapshots' variance.

    Reference:
        Ma et al., "Understanding and Mitigating Overfitting in Prompt Tuning for Vision-Language Models", IEEE TCSVT
        2023, https://arxiv.org/abs/2211.02219
    """

    components: torch.Tensor
    explained_variance_ratio: torch.Tensor

    @classmethod
    def of(cls, snapshots: torch.Tensor, rank: int) -> Subspace:
        """Return the subspace of the largest variance: principal component analysis, computed in float64.

        Args:
            snapshots: Parameter vectors, snapshots × dim.
            rank: r, the number of components.

        Raises:
            ValueError: A rank that the snapshots cannot have: about their mean they span one dimension less than
                there are of them.
        """
        count, dim = snapshots.shape
        highest = min(count - 1, dim)
        if not 1 <= rank <= highest:
            raise ValueError(
                f"A subspace of rank {rank} cannot be found from {count} snapshots of {dim} parameters; set "
                f"subspace_rank to at most {highest}, or subspace_epochs to more than {rank}."
            )
        centred = snapshots.double() - snapshots.double().mean(dim=0)
        _, singular_values, components = torch.linalg.svd(centred, full_matrices=False)
        variance = singular_values.square()
        total = variance.sum()
        ratio = variance[:rank] / total if total > 0 else torch.zeros(rank, dtype=torch.float64)
        return cls(components[:rank].to(snapshots.dtype).contiguous(), ratio.contiguous())

    def project(self, direction: torch.Tensor) -> torch.Tensor:
        """`UᵀU·d`: the part of a flat vector that lies in the subspace."""
        components = self.components.to(direction)
        return components.T @ (components @ direction)
