"""A batch of six samples of four classes."""

import pytest
import torch


@pytest.fixture
def logits() -> torch.Tensor:
    return 3 * torch.randn(6, 4, dtype=torch.float64)


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.tensor([0, 3, 1, 0, 2, 3])
