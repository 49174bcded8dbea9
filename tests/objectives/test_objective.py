"""How objectives are chosen by name, and what they see of a batch."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from hf_sharp_prompt.objectives import Batch, create, names, sharpness_aware_names


def test_those_of_the_sharpness_family_are_there():
    """Otherwise `sharpness="saf"` is promised and does not exist."""
    assert sharpness_aware_names() == ["mesa", "saf"]
    assert names() == sorted(names())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("safe", {}, r"no objective 'safe'; did you mean 'saf'\? Known are: kgcoop, mesa, nfl"),
        ("saf", {"wieght": 1}, r"saf has no hyperparameter 'wieght'; did you mean 'weight'\? It takes: weight=0.3"),
        ("saf", {"lmbda": 1}, r"saf has no hyperparameter 'lmbda'\. It takes: weight=0.3"),
        ("saf", {"temperature": 0}, "saf: temperature must be a finite number > 0, got 0"),
        ("saf", {"epochs_ago": 1.5}, "saf: epochs_ago must be a whole number >= 1, got 1.5"),
        ("mesa", {"decay": 1.1}, "mesa: decay must be a finite number >= 0 and <= 1, got 1.1"),
    ],
)
def test_a_typing_error_is_answered_with_what_would_be_right(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        create(name, **arguments)


class TestBatch:
    @pytest.mark.parametrize("wrap", [lambda z: z, lambda z: {"logits": z}, lambda z: SimpleNamespace(logits=z)])
    def test_logits_are_found_in_what_models_return(self, wrap):
        logits = torch.zeros(2, 3)
        assert Batch(nn.Identity(), {}, wrap(logits)).logits is logits

    def test_outputs_without_logits(self):
        with pytest.raises(ValueError, match="needs logits, and the model returned a dict without any"):
            _ = Batch(nn.Identity(), {}, {"loss": torch.zeros(())}).logits

    def test_parts_add_up_to_the_mean_over_the_whole_batch(self):
        """This holds for values per sample, without the ignored ones, and for what depends on the model alone."""
        values = torch.tensor([1.0, 2.0, 4.0, 100.0, 8.0])
        labels = torch.tensor([0, 1, 0, -100, 1])
        parts = [slice(0, 2), slice(2, 4), slice(4, 5), slice(5, 5)]
        batches = [Batch(nn.Identity(), {}, torch.zeros(5, 2)[each], labels[each], size=4) for each in parts]
        assert sum(batch.mean(values[each]) for batch, each in zip(batches, parts)) == 15 / 4
        assert sum(batch.mean(torch.tensor(7.0)) for batch in batches) == 7
        assert Batch(nn.Identity(), {}, torch.zeros(5, 2), labels).mean(values) == 15 / 4
        assert Batch(nn.Identity(), {}, torch.zeros(0, 2)).mean(values[:0]) == 0

    def test_weights_of_samples_hold_for_all_parts_of_the_mean(self):
        """Otherwise focalsam's two parts of a batch have other objectives than the batch."""
        values, labels = torch.tensor([1.0, 2.0, 100.0]), torch.tensor([0, 1, -100])
        weights = torch.tensor([0.25, 0.5, 9.0])
        batch = Batch(nn.Identity(), {}, torch.zeros(3, 2), labels, size=4, sample_weights=weights)
        assert batch.mean(values) == 1.25 / 4
        assert batch.mean(torch.tensor(7.0)) == 7 * 0.75 / 4
        assert batch.share == 0.75 / 4
