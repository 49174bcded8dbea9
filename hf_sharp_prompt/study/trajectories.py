"""The path of a prompt over training: in how few directions does it move, early and late?

SubPT's paper (Ma et al., 2023, section 3.2) looks at the eigenvalues of the gradient flow: the covariance of the
parameters over a stretch of epochs. If few of them are large, the path lies in a subspace of few dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


PATH_NAME = "path.npy"
"""The file of a recorded path: epochs × parameters."""
Array = NDArray[np.float64]


def spectrum(path: Array) -> tuple[Array, Array]:
    """The eigenvalues of a path's covariance, and its directions.

    Args:
        path: epochs × parameters.

    Returns:
        The eigenvalues, descending, and the eigenvectors as rows, epochs × parameters.
    """
    _, singular, directions = np.linalg.svd(path - path.mean(axis=0), full_matrices=False)
    return singular**2 / len(path), directions


def share_within(path: Array, directions: Array) -> float:
    """The share of a path's variance that lies in a subspace.

    Args:
        path: epochs × parameters.
        directions: An orthonormal basis of the subspace, as rows.
    """
    centred = path - path.mean(axis=0)
    return float(((centred @ directions.T) ** 2).sum() / (centred**2).sum())


def early_and_late(path: Array, epochs: int) -> Sequence[Array]:
    """The first and the last epochs of a path."""
    return path[:epochs], path[-epochs:]
