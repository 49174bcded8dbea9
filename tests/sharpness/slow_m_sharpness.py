"""m-sharpness written out: runs on each part of the batch alone."""

import torch
from sharpness.every_rule import DRAWS, make_rule
from sharpness.problem import Classifier

from hf_sharp_prompt.sharpness import SharpnessAware


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
