"""m-sharpness (Foret et al. §4.1): a rule applied to each micro-batch, or each process's share, by itself."""

import math

import pytest
import torch
from sharpness.every_rule import DRAWS, NEEDS_LABELS
from sharpness.problem import BATCH, Classifier, Scaled, assert_same_bits, assert_same_state, make_sharp, micro_batches
from sharpness.slow_m_sharpness import reference
from support.rotation import rotate

from hf_sharp_prompt.sharpness import Backward, create, names


EVEN, UNEVEN = [[0, 1], [2, 3], [4, 5]], [[0], [1, 2, 3], [], [4, 5]]
every_rule = pytest.mark.parametrize("name", names())


def follow(name: str, parts: list[list[int]], per_sample: bool = True, m_sharpness: str = "micro_batch"):
    model = Classifier()
    sharp = make_sharp(name, model, m_sharpness=m_sharpness)
    directions = []
    for _ in range(3):
        sharp.optimizer.zero_grad()
        sharp.backward(*micro_batches(name, model, parts, per_sample))
        directions.append(model.directions().clone())
        sharp.optimizer.step()
    return torch.stack(directions), sharp


@pytest.mark.parametrize(
    ("name", "parts", "per_sample"),
    [(name, parts, True) for name in names() for parts in (EVEN, UNEVEN)]
    + [(name, EVEN, False) for name in names() if name not in NEEDS_LABELS],
)
def test_the_direction_is_the_mean_of_the_micro_batches_own(name, parts, per_sample):
    """Otherwise the option is not the m-sharpness of the paper."""
    directions, _ = follow(name, parts, per_sample)
    torch.testing.assert_close(directions, reference(name, parts), rtol=0, atol=1e-12)


@every_rule
def test_of_one_process_the_share_is_the_whole_batch(name):
    """Otherwise `process` differs from `batch` before a second process is there; noise is the part's own."""
    expected = reference(name, [[*range(BATCH)]])
    for parts in (EVEN, UNEVEN):
        directions, _ = follow(name, parts, m_sharpness="process")
        torch.testing.assert_close(directions, expected, rtol=0, atol=1e-12)


def test_it_is_another_method():
    """Otherwise these tests could not fail; without a perturbation it is the same."""
    for name in ("sam", "none"):
        apart, together = follow(name, EVEN)[0], follow(name, EVEN, m_sharpness="batch")[0]
        assert torch.allclose(apart, together, rtol=0, atol=1e-12) == (name == "none")


def test_a_loop_that_runs_the_backward_pass_itself_says_the_shares():
    """As the Trainer, whose micro-batches' losses are divided by the size of the whole batch."""
    parts = [[0], [1, 2, 3], [4, 5]]
    model = Classifier()
    sharp = make_sharp("sagm", model, m_sharpness="micro_batch")

    def backward_pass(part: list[int]) -> torch.Tensor:
        loss = model.loss(part)
        loss.backward()
        return loss.detach()

    passes = [lambda sample_mask, part=part: Backward(backward_pass(part)) for part in parts]
    loss = sharp.accumulate_direction(passes, [len(part) / BATCH for part in parts])
    torch.testing.assert_close(model.directions(), reference("sagm", parts, 1)[0], rtol=0, atol=1e-12)
    assert float(loss) == pytest.approx(float(model.loss()), abs=1e-12)


@every_rule
def test_what_is_reported_is_the_mean_over_the_parts(name):
    """Otherwise the logged sharpness is that of the last micro-batch."""
    model, expected = Classifier(), {}
    for part in UNEVEN:
        if part and name not in DRAWS:
            single = make_sharp(name, model)
            single.backward(lambda part=part: model.losses(part), model.labels[part])
            for key, value in single.pop_metrics().items():
                expected[key] = expected.get(key, 0) + len(part) / BATCH * value
    actual = make_sharp(name, model, m_sharpness="micro_batch")
    actual.backward(*micro_batches(name, model, UNEVEN, per_sample=True))
    metrics = actual.pop_metrics()
    assert name in DRAWS or metrics == pytest.approx(expected, abs=1e-12)
    assert metrics.keys() >= {"loss", "gradient_norm"}


@pytest.mark.parametrize(("name", "failure"), rotate(names(), [math.nan, KeyboardInterrupt, 1e38]))
def test_a_part_that_fails_leaves_everything_as_it_was(name, failure):
    """Otherwise one bad micro-batch of many leaves its mark; 1e38 overflows under a loss scaler."""
    model = Classifier(torch.float32)
    sharp = make_sharp(name, model, Scaled() if failure == 1e38 else None, m_sharpness="micro_batch")
    closures, labels = micro_batches(name, model, EVEN, per_sample=True)
    sharp.backward(closures, labels)
    model.zero_grad()
    before, state = model.bits(), sharp.state_dict()

    def fail() -> torch.Tensor:
        if failure is KeyboardInterrupt:
            raise KeyboardInterrupt
        return closures[1]() * failure

    if failure is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            sharp.backward([closures[0], fail, closures[2]], labels)
    else:
        sharp.backward([closures[0], fail, closures[2]], labels)
        assert not model.directions().isfinite().all()
    assert_same_bits(model.bits(), before)
    assert_same_state(sharp.state_dict(), state)


def test_an_unknown_scope():
    with pytest.raises(ValueError, match="m_sharpness must be one of batch, micro_batch, process, got 'sample'"):
        make_sharp(create("sam"), Classifier(), m_sharpness="sample")
