"""Steps of every sharpness rule in a loop of one's own: on one process, or as one of two."""

from collections.abc import Iterator

import torch
from accelerate import Accelerator
from sharpness.every_rule import NEEDS_LABELS, make_rule, names
from sharpness.problem import Classifier
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hf_sharp_prompt.sharpness import SharpnessAware


FORMS = [
    (name, form) for name in names() for form in ("even", "uneven") if form == "uneven" or name not in NEEDS_LABELS
]
# m-sharpness: the micro-batches of each process, and the parts of the batch that are perturbed by themselves.
OF_PROCESSES = [[[0], [1, 2, 3]], [[4], [5]]]
PARTS = {"process": [[0, 1, 2, 3], [4, 5]], "micro_batch": [[0], [4], [1, 2, 3], [5]]}
# Whether the model is wrapped in DDP takes turns, so that each form and each scope, and nearly every rule, meets both.
LOOPS = [(name, form, (names().index(name) + (form == "even")) % 2 == 0) for name, form in FORMS]
APART = [(name, scope, (turn + (scope == "process")) % 2 == 0) for turn, name in enumerate(names()) for scope in PARTS]


class Losses(nn.Module):
    """The problem as a module whose forward pass gives each row's loss."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = Classifier()

    def forward(self, rows: list[int]) -> torch.Tensor:
        return self.classifier.losses(rows)


def prepare(accelerator: Accelerator | None, wrap: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Losses()
    optimizer = torch.optim.SGD(model.classifier.trained(), lr=0.1, momentum=0.9)
    if wrap:
        model, optimizer = accelerator.prepare(model, optimizer)
        assert isinstance(model, DistributedDataParallel)
    return model, optimizer


def shares(form: str, step: int) -> list[list[list[int]]]:
    """Share 4 of the 6 rows: each process has its micro-batches."""
    a, b, c, d = [(step + row) % 6 for row in range(4)]
    if form == "even":
        return [[[a], [b]], [[c], [d]]]
    return [[[a], [b, c]], [[d], []]] if step % 2 else [[[a, b, c], [d]], [[], []]]


def train(name: str, form: str, accelerator: Accelerator | None = None, wrap: bool = False) -> list[torch.Tensor]:
    """Parameters, losses and metrics after four steps; without an accelerator over the whole batch."""
    model, optimizer = prepare(accelerator, wrap)
    sharp = SharpnessAware(make_rule(name), model.parameters(), accelerator, optimizer=optimizer)
    losses = []
    for step in range(4):
        sharp.epoch = step // 2
        of_processes = shares(form, step)
        whole = [[row for parts in of_processes for part in parts for row in part]]
        parts = whole if accelerator is None else of_processes[accelerator.process_index]
        closures = [lambda part=part: model(part) for part in parts]
        if form == "even":  # as scalars: the processes' mean of the micro-batches' sums
            share = 1 / len(parts)
            closures = [lambda part=part, share=share: share * model(part).mean() for part in parts]
        optimizer.zero_grad()
        losses.append(sharp.backward(closures, [Classifier().labels[part] for part in parts]))
        optimizer.step()
    metrics = torch.tensor(list(sharp.pop_metrics().values()), dtype=torch.float64)
    return [*(each.detach() for each in model.parameters()), torch.stack(losses), metrics]


def follow_apart(name: str, scope: str, accelerator: Accelerator, wrap: bool) -> torch.Tensor:
    """The directions of three steps with m-sharpness."""
    model, optimizer = prepare(accelerator, wrap)
    sharp = SharpnessAware(make_rule(name), model.parameters(), accelerator, optimizer=optimizer, m_sharpness=scope)
    parts, directions = OF_PROCESSES[accelerator.process_index], []
    for _ in range(3):
        optimizer.zero_grad()
        with accelerator.no_sync(model):
            closures = [lambda part=part: model(part) for part in parts]
            sharp.backward(closures, [Classifier().labels[part] for part in parts])
        directions.append(torch.cat([each.flatten() for each in sharp.parameters.gradients]))
        optimizer.step()
    return torch.stack(directions)


def train_each() -> Iterator[tuple[str, list[torch.Tensor]]]:
    """As one of two processes."""
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == torch.distributed.get_world_size() == 2
    for name, form, wrapped in LOOPS:
        yield f"{name}, {form}, {wrapped}", train(name, form, accelerator, wrapped)
    for name, scope, wrapped in APART:
        yield f"{name}, {scope}, {wrapped}", follow_apart(name, scope, accelerator, wrapped)
