"""What the shared prefix saves: `python benchmarks/text_encoder.py` prints the tables of benchmarks/README.md.

Features of all class prompts `[SOS][V1 … Vn][name][.][EOS]` and the gradient to the context, with a text tower of
ViT-B/16's size and random weights, in three ways that compute the same:

- padded: the tower's own forward over 77 tokens per class, as the papers' code calls it;
- cut: the same, cut behind the longest prompt;
- shared prefix: `encode_shared_prefix`, all at once, and for 1000 classes also in chunks of 250.

The ways take turns in one process, and the medians are compared. Memory is the peak of a fresh process per way, above
what it held before. What would need more than 16 GiB is measured for 100 classes and multiplied (marked ≈). The share
of the peak compares the operations of the matrix products (counted, but for those of fused attention on CPU and for
what chunks compute again) with the fastest large product of the same run. Differences are relative to the largest
value, for 100 classes.
"""

import argparse
import json
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import product
from statistics import median
from time import perf_counter, process_time

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

from hf_sharp_prompt.tuners.shared_prefix import encode_shared_prefix, route_attention


POSITIONS, WIDTH, LAYERS = 77, 512, 12
FULL_STOP, SOS, EOS = 269, 49406, 49407
# A class name has one to five tokens, 2.25 in the mean.
NAME_LENGTHS = {1: 0.30, 2: 0.35, 3: 0.20, 4: 0.10, 5: 0.05}
CHUNK = 250
MOST_MEMORY = 16 * 2**30
CLASSES_WHERE_MEMORY_ENDS = 100

KINDS = {
    "aten::addmm": "large products",
    "aten::mm": "large products",
    "aten::bmm": "attention's products",
    "aten::native_layer_norm": "layer norm",
    "aten::native_layer_norm_backward": "layer norm",
    "aten::mul": "activation",
    "aten::sigmoid": "activation",
    "aten::sigmoid_backward": "activation",
    "aten::copy_": "copies",
    "aten::cat": "copies",
    "aten::_softmax": "softmax and mask",
    "aten::_softmax_backward_data": "softmax and mask",
    "aten::masked_fill_": "softmax and mask",
    "aten::add": "sums",
    "aten::add_": "sums",
}


class Case:
    """A tower, classes and a context, and the ways to encode them."""

    def __init__(
        self,
        classes: int,
        context: int,
        dtype: str,
        width: int = WIDTH,
        layers: int = LAYERS,
        clock: Callable[[], float] = perf_counter,
        device: torch.device | None = None,
    ) -> None:
        self.clock = clock
        self.device = device or torch.accelerator.current_accelerator() or torch.device("cpu")
        torch.manual_seed(0)
        config = CLIPTextConfig(hidden_size=width, num_hidden_layers=layers, num_attention_heads=8)
        self.tower = CLIPTextModel(config).eval().requires_grad_(False).to(self.device, getattr(torch, dtype))
        route_attention(self.tower)
        numbers = random.Random(0)
        lengths = [*numbers.choices(list(NAME_LENGTHS), list(NAME_LENGTHS.values()), k=classes - 1), max(NAME_LENGTHS)]
        self.texts = [[*(numbers.randrange(SOS) for _ in range(n)), FULL_STOP, EOS] for n in lengths]
        start = self.tower.embeddings.token_embedding.weight[SOS:][:1]
        self.prefix = torch.cat([start, 0.02 * torch.randn(context, width).to(start)]).requires_grad_()
        self.weights = torch.randn(classes, width).to(start)

    def padded(self, length: int = POSITIONS, classes: int | None = None) -> torch.Tensor:
        """The tower's own forward, `length` tokens a class."""
        n = len(self.prefix)
        rows = [torch.tensor([SOS] * n + text + [EOS] * (length - n - len(text))) for text in self.texts[:classes]]

        def place(module: nn.Module, args: tuple, embedded: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.prefix.expand(len(embedded), -1, -1), embedded[:, n:]], dim=1)

        hook = self.tower.embeddings.token_embedding.register_forward_hook(place)
        features = self.tower(pad_sequence(rows, batch_first=True).to(self.device)).pooler_output
        hook.remove()
        return features

    def cut(self, classes: int | None = None) -> torch.Tensor:
        return self.padded(self.longest, classes)

    def shared(self, classes: int | None = None) -> torch.Tensor:
        return encode_shared_prefix(self.tower, self.prefix, self.texts[:classes], class_chunk_size=len(self.texts))

    def chunked(self, classes: int | None = None) -> torch.Tensor:
        return encode_shared_prefix(self.tower, self.prefix, self.texts[:classes], class_chunk_size=CHUNK)

    @property
    def longest(self) -> int:
        return len(self.prefix) + max(map(len, self.texts))

    def tokens(self, way: str, classes: int) -> int:
        lengths = {"padded": classes * POSITIONS, "cut": classes * self.longest}
        return lengths.get(way, len(self.prefix) + sum(map(len, self.texts[:classes])))

    def classes_at_once(self, way: str) -> int | None:
        """All (None), or as many as stand for them where all would need too much memory."""
        values_per_token = LAYERS * 15 * WIDTH  # about what the layers hold for the backward pass
        held = self.tokens(way, len(self.texts)) * values_per_token * self.prefix.element_size()
        return CLASSES_WHERE_MEMORY_ENDS if held > MOST_MEMORY else None

    def run(self, way: str, classes: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Features, and the gradient of a loss to the prefix."""
        features = getattr(self, way)(classes=classes)
        (gradient,) = torch.autograd.grad((features * self.weights[:classes]).sum(), self.prefix)
        return features.detach(), gradient

    def synchronize(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def seconds(self, function: Callable[[], object]) -> float:
        self.synchronize()
        started = self.clock()
        function()
        self.synchronize()
        return self.clock() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    on_accelerator = torch.accelerator.is_available()
    parser.add_argument("--classes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--context", type=int, nargs="+", default=[4, 16])
    parser.add_argument(
        "--dtype", nargs="+", default=["float32", "bfloat16", "float16"] if on_accelerator else ["float32"]
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--cpu_time",
        action="store_true",
        help="measure the time that the process had the CPU; fair where others use it too, with OMP_NUM_THREADS=1",
    )
    parser.add_argument("--memory_of", help=argparse.SUPPRESS)  # what a fresh process is asked for
    args = parser.parse_args()
    if args.memory_of:
        print(json.dumps(peak_memory(Case(args.classes[0], args.context[0], args.dtype[0]), args.memory_of)))
        return
    clock = process_time if args.cpu_time else perf_counter
    device = torch.accelerator.current_accelerator() or f"{torch.get_num_threads()} threads"
    print(f"{device}, torch {torch.__version__}, {'CPU' if args.cpu_time else 'wall'} time\n")
    print(
        "| classes | context | dtype | way | tokens | seconds | faster than padded | than cut | peak memory, GiB "
        "| share of peak | features differ by | gradients by |"
    )
    print("|" + "---|" * 12)
    for classes, context, dtype in product(args.classes, args.context, args.dtype):
        print_case(Case(classes, context, dtype, clock=clock), (classes, context, dtype), args.repeats)
    print_kinds(Case(args.classes[0], args.context[-1], args.dtype[0]), args.repeats)


def print_case(case: Case, name: tuple[int, int, str], repeats: int) -> None:
    classes = name[0]
    ways = ["padded", "cut", "shared", *(["chunked"] if classes > CHUNK else [])]
    few = min(classes, CLASSES_WHERE_MEMORY_ENDS)
    compared, operations_per_token = {}, {}
    for way in ways:  # which also warms up
        with FlopCounterMode(display=False) as counter:
            compared[way] = case.run(way, few)
        operations_per_token[way] = counter.get_total_flops() / case.tokens(way, few)
    parts = {way: case.classes_at_once(way) for way in ways}
    scale = {way: classes / (parts[way] or classes) for way in ways}
    seconds, fastest_product = defaultdict(list), 0.0
    for _ in range(repeats):
        fastest_product = max(fastest_product, product_speed(case))
        for way in ways:
            seconds[way].append(scale[way] * case.seconds(partial(case.run, way, parts[way])))
    times = {way: median(seconds[way]) for way in ways}
    for way in ways:
        operations = operations_per_token[way] * case.tokens(way, classes)
        differences = (float((a - b).abs().max() / b.abs().max()) for a, b in zip(compared[way], compared["padded"]))
        gib = scale[way] * memory_in_fresh_process(way, name) / 2**30
        about = "≈ " if parts[way] else ""
        cells = [
            *name,
            way,
            case.tokens(way, classes),
            f"{about}{times[way]:.2f}",
            f"{about}{times['padded'] / times[way]:.1f}",
            f"{times['cut'] / times[way]:.1f}",
            f"{about}{gib:.2f}",
            f"{operations / times[way] / fastest_product:.0%}",
            *(f"{difference:.0e}" for difference in differences),
        ]
        print("|", " | ".join(map(str, cells)), "|", flush=True)


def print_kinds(case: Case, repeats: int) -> None:
    """Where the shared prefix's time goes, by kind of operation."""
    activity = ProfilerActivity.CPU if case.device.type == "cpu" else ProfilerActivity.CUDA
    case.run("shared")
    with profile(activities=[activity]) as profiled:
        for _ in range(repeats):
            case.run("shared")
    by_kind: dict[str, float] = defaultdict(float)
    for event in profiled.key_averages():
        own = event.self_cpu_time_total if activity == ProfilerActivity.CPU else event.self_device_time_total
        by_kind[KINDS.get(event.key, "other")] += own
    total = sum(by_kind.values())
    print(f"\n{len(case.texts)} classes, {len(case.prefix) - 1} context tokens, shared prefix:", end=" ")
    print(", ".join(f"{kind} {own / total:.0%}" for kind, own in sorted(by_kind.items(), key=lambda item: -item[1])))


def product_speed(case: Case) -> float:
    """Operations per second of a large matrix product, the fastest of several."""
    size = 2048 if case.device.type == "cpu" else 8192
    a, b = torch.randn(2, size, size, device=case.device, dtype=case.prefix.dtype)
    return 2 * size**3 / min(case.seconds(lambda: a @ b) for _ in range(5))


def memory_in_fresh_process(way: str, name: tuple[int, int, str]) -> int:
    options = zip(("--memory_of", "--classes", "--context", "--dtype"), (way, *map(str, name)))
    command = [sys.executable, __file__, *(word for option in options for word in option)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_memory(case: Case, way: str) -> int:
    """Bytes above what was held before."""
    case.run("shared", classes=1)
    if case.device.type != "cpu":
        torch.accelerator.reset_peak_memory_stats()
        before = torch.accelerator.memory_allocated()
        case.run(way, case.classes_at_once(way))
        return torch.accelerator.max_memory_allocated() - before
    before = resident_memory("VmRSS")
    case.run(way, case.classes_at_once(way))
    return resident_memory("VmHWM") - before


def resident_memory(field: str) -> int:
    """Bytes, now (VmRSS) or at the most since the process began (VmHWM); `ru_maxrss` would include the parent's."""
    with open("/proc/self/status") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith(field))


if __name__ == "__main__":
    main()
