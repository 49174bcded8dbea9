"""Whether one model serves many threads: `python benchmarks/serving.py` prints the table of benchmarks/README.md.

A thread pool answers requests with one prompted CLIP, the demo's. A request brings an image or texts, and may name
classes and an adapter of its own. Every answer is compared with that of the same request alone. Memory is the
process's resident set. The exit code is 1 if an answer was wrong, or if memory has grown since the first fifth of the
requests by more than `--allowed_growth` MiB.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import psutil
import torch
from peft import PeftModel, get_peft_model
from transformers import AutoTokenizer, CLIPModel

from hf_sharp_prompt import CLIPPromptConfig
from hf_sharp_prompt.demo import CLIP_PATH


COLOURS, SHAPES = ["red", "blue", "green", "white"], ["star", "heart", "circle", "cross", "ring"]
CLASS_SETS = [[f"{colour} {shape}" for shape in SHAPES[: 2 + i]] for i, colour in enumerate(COLOURS)]
ADAPTERS = ["coop", "ivlp", "__base__"]


def make_model() -> PeftModel:
    """Make the demo's CLIP with two adapters, as different as they can be."""
    tokenizer = AutoTokenizer.from_pretrained(CLIP_PATH)
    model = get_peft_model(CLIPModel.from_pretrained(CLIP_PATH), CLIPPromptConfig.coop(), adapter_name="coop")
    model.add_adapter("ivlp", CLIPPromptConfig.ivlp(text_depth=2, vision_depth=2))
    for adapter in ("ivlp", "coop"):
        model.set_adapter(adapter)
        model.set_classes(CLASS_SETS[0], tokenizer)
    return model.eval()


def make_requests(model: PeftModel) -> list[Callable[[], torch.Tensor]]:
    """Make different requests: classes of their own, an adapter of their own, both, and texts."""
    tokenizer = AutoTokenizer.from_pretrained(CLIP_PATH)
    images = torch.randn(4, 1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    requests: list[Callable[[], torch.Tensor]] = []
    for names, adapter, image in zip(CLASS_SETS * 3, itertools.cycle(ADAPTERS), itertools.cycle(images)):
        requests += [
            lambda i=image, n=names, a=adapter: model.classify(i, names=n, adapter=a).logits,
            lambda i=image, a=adapter: model.classify(i, adapter=a).logits,
        ]
    for names in CLASS_SETS:
        texts = tokenizer(names, padding=True, return_tensors="pt")
        requests.append(lambda t=texts: model.get_text_features(**t).pooler_output)
    return requests


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--allowed_growth", type=float, default=16, help="MiB")
    args = parser.parse_args()
    requests = make_requests(make_model())
    with torch.inference_mode():
        alone = [request() for request in requests]

    @torch.inference_mode()
    def answer(number: int) -> tuple[bool, float]:
        """Answer a request; return whether it was right, and the seconds that it took."""
        which, started = number * 7 % len(requests), perf_counter()
        found = requests[which]()
        seconds = perf_counter() - started
        return found.shape == alone[which].shape and torch.allclose(found, alone[which], rtol=1e-4, atol=1e-4), seconds

    print(f"{args.threads} threads, torch {torch.__version__}, {torch.get_num_threads()} of torch's own each\n")
    print("| requests | wrong | requests/s | median ms | 99 % ms | memory, MiB |\n|---|---|---|---|---|---|")
    part, wrong, memory = args.requests // 5, 0, []
    with ThreadPoolExecutor(args.threads) as pool:
        for done in range(part, args.requests + 1, part):
            started = perf_counter()
            rights, times = zip(*pool.map(answer, range(done - part, done)), strict=True)
            elapsed, sorted_times = perf_counter() - started, sorted(times)
            wrong += part - sum(rights)
            memory.append(psutil.Process().memory_info().rss / 2**20)
            middle, slow = (1000 * sorted_times[int(part * share)] for share in (0.5, 0.99))
            print(
                f"| {done} | {wrong} | {part / elapsed:.0f} | {middle:.0f} | {slow:.0f} | {memory[-1]:.0f} |",
                flush=True,
            )
    return int(bool(wrong) or memory[-1] - memory[0] > args.allowed_growth)


if __name__ == "__main__":
    sys.exit(main())
