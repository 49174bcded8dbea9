"""m-sharpness (Foret et al. §4.1): a rule applied to each micro-batch, or each process's share, by itself."""

import math
from textwrap import dedent

import pytest
import torch
from family import DRAWS, NEEDS_LABELS, make_rule
from problem import BATCH, Classifier, Scaled, assert_same_bits, assert_same_state, make_sharp, micro_batches
from processes import run_in_two_processes

from hf_sharp_prompt.sharpness import Backward, SharpnessAware, create, names


EVEN, UNEVEN = [[0, 1], [2, 3], [4, 5]], [[0], [1, 2, 3], [], [4, 5]]
every_rule = pytest.mark.parametrize("name", names())


def reference(name: str, parts: list[list[int]], steps: int = 3) -> torch.Tensor:
    """Slow and obvious: the directions of runs on each part alone, averaged by their numbers of samples.

    Every part starts from what was remembered before; afterwards that is the mean over the parts. Noise of a part's
    own: a generator for each, all seeded from the rule's one.
    """
    model, generator, state, directions = Classifier(), torch.Generator().manual_seed(0), {}, []
    optimizer = torch.optim.SGD(model.trained(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        seed = int(torch.randint(2**62, (), generator=generator)) if name in DRAWS else 0
        followed, states, samples = [], [], [len(part) for part in parts]
        for number, part in enumerate(parts):
            if not part:
                continue
            rule = make_rule(name)
            rule.state = dict(state)
            sharp = SharpnessAware(rule, model.parameters(), optimizer=optimizer, seed=seed + number)
            optimizer.zero_grad()
            sharp.backward(lambda part=part: model.losses(part), model.labels[part])
            followed.append(model.directions())
            states.append(rule.state)
        weights = [count / sum(samples) for count in samples if count]
        direction = sum(weight * each for weight, each in zip(weights, followed, strict=True))
        state = {
            key: sum(weight * each[key] for weight, each in zip(weights, states, strict=True))
            if value.is_floating_point()
            else value
            for key, value in states[0].items()
        }
        for each, piece in zip(model.trained(), direction.split([p.numel() for p in model.trained()]), strict=True):
            each.grad = piece.view_as(each)
        optimizer.step()
        directions.append(direction)
    return torch.stack(directions)


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


@every_rule
@pytest.mark.parametrize("failure", [math.nan, KeyboardInterrupt, 1e38])
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


def test_two_processes_each_perturb_for_themselves(tmp_path):
    """Otherwise `process` is what one process does, or depends on how the gradients are averaged."""
    script = tmp_path / "train.py"
    script.write_text(dedent(TWO_PROCESSES))
    printed = run_in_two_processes(script)
    assert sorted(printed.split()) == sorted(f"{name}-{rank}" for name in names() for rank in range(2))


TWO_PROCESSES = """
    import torch
    from accelerate import Accelerator
    from family import make_rule, names
    from problem import Classifier
    from sharpness.test_m_sharpness import reference

    from hf_sharp_prompt.sharpness import SharpnessAware

    accelerator = Accelerator(cpu=True)
    rank = accelerator.process_index
    assert accelerator.num_processes == torch.distributed.get_world_size() == 2

    class Losses(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.classifier = Classifier()

        def forward(self, rows):
            return self.classifier.losses(rows)

    of_processes = [[[0], [1, 2, 3]], [[4], [5]]]
    by_scope = {"process": [[0, 1, 2, 3], [4, 5]], "micro_batch": [[0], [4], [1, 2, 3], [5]]}
    for name in names():
        for scope, parts in by_scope.items():
            expected = reference(name, parts)
            for wrap in (False, True):
                model = Losses()
                optimizer = torch.optim.SGD(model.classifier.trained(), lr=0.1, momentum=0.9)
                if wrap:
                    model, optimizer = accelerator.prepare(model, optimizer)
                sharp = SharpnessAware(
                    make_rule(name), model.parameters(), accelerator, optimizer=optimizer, m_sharpness=scope
                )
                for step in range(3):
                    mine = of_processes[rank]
                    optimizer.zero_grad()
                    with accelerator.no_sync(model):
                        closures = [lambda part=part: model(part) for part in mine]
                        sharp.backward(closures, [Classifier().labels[part] for part in mine])
                    actual = torch.cat([each.flatten() for each in sharp.parameters.gradients])
                    torch.testing.assert_close(actual, expected[step], rtol=0, atol=1e-12)
                    optimizer.step()
        for each in range(2):
            if each == rank:
                print(f"{name}-{rank}", flush=True)
            accelerator.wait_for_everyone()
    accelerator.end_training()
"""
