import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from hf_sharp_prompt.tuners.class_loss import class_loss


LOGITS = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([2, 0, 1, 2])


@pytest.mark.parametrize("number", [None, 10, torch.tensor(10)])
def test_one_hot_labels_give_the_loss_of_indices(number):
    """Otherwise mixup and CutMix train with another learning rate."""
    expected = class_loss(LOGITS, LABELS, number)
    torch.testing.assert_close(class_loss(LOGITS, one_hot(LABELS, 3).double(), number), expected)
    summed = cross_entropy(LOGITS, LABELS, reduction="sum")
    torch.testing.assert_close(expected, summed / (4 if number is None else 10))


def test_probabilities_give_the_expected_loss():
    weights = torch.tensor([[0.2, 0.5, 0.3]]).double().expand(4, -1)
    expected = -(weights * LOGITS.log_softmax(dim=-1)).sum() / 4
    torch.testing.assert_close(class_loss(LOGITS, weights), expected)
    torch.testing.assert_close(class_loss(LOGITS.bfloat16(), weights.float()).double(), expected, rtol=0.02, atol=0)


def test_ignored_labels_do_not_count():
    labels = torch.tensor([2, -100, 1, -100])
    torch.testing.assert_close(class_loss(LOGITS, labels), cross_entropy(LOGITS[[0, 2]], labels[[0, 2]]))


@pytest.mark.parametrize("label", [3, 47, -1])
def test_a_label_outside_the_classes_is_named(label):
    """On a GPU it would be a device-side assertion, which names nothing and ends the process."""
    with pytest.raises(ValueError, match=f"Label {label} is not among the 3 classes, which are 0 to 2; give"):
        class_loss(LOGITS, torch.tensor([0, label, 1, 2]))


def test_probabilities_of_other_classes_are_refused():
    with pytest.raises(ValueError, match="must be batch × classes, here 4 × 3, but they are 4 × 2"):
        class_loss(LOGITS, torch.rand(4, 2))
