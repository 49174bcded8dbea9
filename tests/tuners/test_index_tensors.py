"""Integers are copied to a device once, and can be used wherever that was."""

import torch

from hf_sharp_prompt.tuners.index_tensors import index_tensor


CPU = torch.device("cpu")


def test_the_same_integers_are_copied_once():
    """A copy at every step makes a GPU wait."""
    assert index_tensor([3, 1], CPU) is index_tensor(iter((3, 1)), CPU)
    assert index_tensor([3, 1], CPU).tolist() == [3, 1]
    assert index_tensor([1, 3], CPU).tolist() == [1, 3]


def test_what_inference_has_copied_serves_training():
    """Users first look at what zero-shot reaches, in inference mode, and then train with the same classes."""
    with torch.inference_mode():
        index_tensor([2, 0, 5], CPU)
    rows = torch.randn(6, 2, requires_grad=True)
    rows[index_tensor([2, 0, 5], CPU)].sum().backward()
    assert rows.grad.sum() == 6


def test_an_export_leaves_no_fake_tensor_behind():
    """Otherwise a model could not be used any more once it was exported."""

    class Picks(torch.nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows[index_tensor([4, 4, 1], rows.device)]

    torch.export.export(Picks(), (torch.randn(6, 2),), strict=False)
    assert type(index_tensor([4, 4, 1], CPU)) is torch.Tensor
