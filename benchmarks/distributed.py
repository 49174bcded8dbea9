"""What processes and machines exchange, and what that costs: `python benchmarks/distributed.py` prints the tables.

Steps of the Trainer are run by 1, 2 and 4 processes on this machine's CPU with gloo. Every collective is counted, with
its bytes. The model of cost is

    seconds(P) = seconds of one process with 1/P of the batch + collectives × seconds of a bare one in P processes.

`--machines` starts two machines, each with a `torchrun` and a cache of features of its own; with `--latency 0 1 5` (as
root) they are network namespaces, and a relay between them adds so many milliseconds to each packet.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from accelerate import PartialState
from peft import get_peft_model
from relay import two_namespaces
from transformers import AutoProcessor, CLIPModel, PrinterCallback, TrainerCallback, ViTForImageClassification

from hf_sharp_prompt import (
    CLIPPromptConfig,
    ImageEncoder,
    SharpPromptTrainer,
    SharpPromptTrainingArguments,
    ViTPromptConfig,
)
from hf_sharp_prompt.data import ImageCollator, ImageFeatures
from hf_sharp_prompt.demo import CLIP_PATH, VIT_PATH, load_task


BATCH, CLASSES = 32, 24
COUNTED = ("all_reduce", "all_gather_into_tensor", "all_gather_single", "all_gather", "broadcast")
PLAIN, FSDP = {"ACCELERATE_USE_FSDP": "false"}, {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
# By name: the model's kind, what is learned, the Trainer's arguments, and the launcher's settings.
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, str]]] = {
    "CoOp": ("clip", {"num_text_tokens": 4}, {"sharpness": "none"}, PLAIN),
    "CoOp + SAM": ("clip", {"num_text_tokens": 4}, {"sharpness": "sam"}, PLAIN),
    "ProGrad + SAM": ("clip", {"num_text_tokens": 4}, {"sharpness": "sam", "objectives": ["prograd"]}, PLAIN),
    "VPT + SAM": ("vit", {"num_tokens": 8, "depth": 4}, {"sharpness": "sam"}, PLAIN),
    "CoOp + SAM, sharded tower": ("clip", {"num_text_tokens": 4}, {"sharpness": "sam"}, FSDP),
}
TIMED = ("CoOp + SAM", "VPT + SAM")


class Collectives:
    """Counts the collectives of this process, and the bytes of their tensors."""

    def __init__(self) -> None:
        self.calls = self.bytes = 0

    def counting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def counted(*args: Any, **options: Any) -> Any:
            self.calls += 1
            tensors = [each for each in (*args, *options.values()) if isinstance(each, torch.Tensor)]
            self.bytes += max((each.nbytes for each in tensors), default=0)  # of what is gathered, the whole
            return function(*args, **options)

        return counted

    @contextmanager
    def counted(self) -> Iterator[None]:
        with patch.multiple(dist, **{name: self.counting(getattr(dist, name)) for name in COUNTED}):
            yield


class Recorder(TrainerCallback):
    """Notes time, CPU time and what has been exchanged at the end of each step."""

    def __init__(self, collectives: Collectives) -> None:
        self.collectives = collectives
        self.notes: list[tuple[float, float, int, int]] = []

    def on_step_end(self, *args: Any, **options: Any) -> None:
        self.notes.append((perf_counter(), process_time(), self.collectives.calls, self.collectives.bytes))

    def medians(self) -> dict[str, float]:
        """What a step takes; the first is left out."""
        differences = [
            [after - before for after, before in zip(*pair, strict=True)] for pair in zip(self.notes[1:], self.notes)
        ]
        names = ("seconds", "cpu", "calls", "bytes")
        return {name: median(values) for name, values in zip(names, zip(*differences, strict=True), strict=True)}


def make_trainer(kind: str, batch: int, steps: int, recorder: Recorder) -> SharpPromptTrainer:
    """Make the Trainer of one kind, with this process's share of a batch."""
    family, prompt, arguments, _ = KINDS[kind]
    labels = torch.arange(BATCH) % CLASSES
    torch.manual_seed(0)
    if family == "clip":
        clip = CLIPModel.from_pretrained(CLIP_PATH)
        model = get_peft_model(clip, CLIPPromptConfig(**prompt))
        names = [f"{colour} {shape}" for colour in ("red", "blue", "green") for shape in "abcdefgh"]
        model.set_classes(names, AutoProcessor.from_pretrained(CLIP_PATH))
        data: Any = ImageFeatures(torch.randn(BATCH, 1, clip.config.projection_dim), labels, names)
    else:
        vit = ViTForImageClassification.from_pretrained(VIT_PATH)
        model = get_peft_model(vit, ViTPromptConfig(head="linear", num_labels=CLASSES, **prompt))
        size = vit.config.image_size
        data = [{"pixel_values": torch.randn(3, size, size), "labels": label} for label in labels]
    trainer = SharpPromptTrainer(
        model,
        SharpPromptTrainingArguments(
            tempfile.mkdtemp(),
            per_device_train_batch_size=batch,
            max_steps=steps + 1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            **arguments,
        ),
        train_dataset=data,
        callbacks=[recorder],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def measure(kinds: Sequence[str], batches: Sequence[int], steps: int) -> dict[str, Any]:
    """Measure steps of each kind, as one of the processes; a batch is divided by their number."""
    state, found = PartialState(cpu=True), {}
    for kind in kinds:
        for batch in batches:
            collectives = Collectives()
            recorder = Recorder(collectives)
            with patch.dict(os.environ, KINDS[kind][-1]):
                trainer = make_trainer(kind, batch // state.num_processes, steps, recorder)
            with collectives.counted():
                trainer.train()
            numbers = sum(each.numel() for each in trainer.model.parameters() if each.requires_grad)
            one = bare_all_reduce(numbers) if state.num_processes > 1 else 0.0
            found[f"{kind}, {batch}"] = {**recorder.medians(), "numbers": numbers, "bare": one}
    return found


def bare_all_reduce(numbers: int) -> float:
    """Return the seconds of an all-reduce of so many numbers."""
    tensor, seconds = torch.zeros(numbers), []
    for _ in range(30):
        started = perf_counter()
        dist.all_reduce(tensor)
        seconds.append(perf_counter() - started)
    return median(seconds)


def encode_on_this_machine() -> dict[str, Any]:
    """Encode a few images into the machine's own cache, and tell who took part."""
    state = PartialState()
    images = load_task("colour_shape_tint")["test"].select(range(12))
    processor = AutoProcessor.from_pretrained(CLIP_PATH)
    encoder = ImageEncoder(CLIPModel.from_pretrained(CLIP_PATH))
    features = ImageFeatures.cached(images, encoder, ImageCollator(processor), batch_size=4)
    files = list(Path(os.environ["HF_ASSETS_CACHE"]).rglob("*.safetensors"))
    assert (len(files), len(features)) == (1, 12), "a file on each machine"
    machines = int(os.environ["GROUP_WORLD_SIZE"])
    assert (state.num_processes, machines) == (2, 2), "two machines of one process each"
    return {"processes": state.num_processes, "machines": machines}


def work(request: dict[str, Any]) -> None:
    """Do what a launched process is asked for; the first prints what was found."""
    found = measure(request["kinds"], request["batches"], request["steps"])
    if request["machines"] > 1:
        found["machines"] = encode_on_this_machine()
    if PartialState().is_main_process:
        Path(request["answer"]).write_text(json.dumps(found))
    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()


def launch(
    processes: int,
    kinds: Sequence[str],
    batches: Sequence[int],
    steps: int,
    machines: Sequence[tuple[list[str], dict[str, str]]] = (([], {}),),
    address: str = "127.0.0.1",
) -> dict[str, Any]:
    """Start processes, on one machine or on several, and return what the first found.

    Args:
        processes: How many in all.
        kinds, batches, steps: As for `measure`.
        machines: For each what its command begins with, and its environment.
        address: That of the first machine.
    """
    with socket.create_server(("127.0.0.1", 0)) as free, tempfile.TemporaryDirectory() as folder:
        port = free.getsockname()[1]
        request = {"kinds": kinds, "batches": batches, "steps": steps, "machines": len(machines)}
        words = [__file__, "--work", json.dumps({**request, "answer": f"{folder}/answer.json"})]
        if processes == 1:
            commands = [[sys.executable, *words]]
        else:
            rendezvous = ["--nnodes", str(len(machines)), "--master_addr", address, "--master_port", str(port)]
            per_machine = ["--nproc_per_node", str(processes // len(machines))]
            launcher = [sys.executable, "-m", "torch.distributed.run", *rendezvous, *per_machine]
            commands = [
                [*prefix, *launcher, "--node_rank", str(rank), *words] for rank, (prefix, _) in enumerate(machines)
            ]
        free.close()
        common = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
        started = [
            subprocess.Popen(
                command,
                env={**os.environ, **common, "HF_ASSETS_CACHE": f"{folder}/machine{rank}", **machines[rank][1]},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank, command in enumerate(commands)
        ]
        errors = [each.communicate(timeout=600)[1] for each in started]
        if any(each.returncode for each in started):
            raise RuntimeError("\n".join(error[-8000:] for error in errors))
        return json.loads(Path(folder, "answer.json").read_text())


def print_exchanged(found: dict[str, Any]) -> None:
    print("| run of two processes | numbers that train | collectives per step | bytes per step |")
    print("|---|---|---|---|")
    for kind in KINDS:
        row = found[f"{kind}, {BATCH}"]
        print(f"| {kind} | {row['numbers']:,} | {row['calls']:.0f} | {row['bytes']:,.0f} |", flush=True)


def print_costs(alone: dict[str, Any], by_processes: dict[int, dict[str, Any]]) -> None:
    print("\n| run | processes | CPU ms a process and step | by the model | ms a step | by the model | a collective |")
    print("|---|---|---|---|---|---|---|")
    for kind in TIMED:
        for processes, found in {1: alone, **by_processes}.items():
            row, share = found[f"{kind}, {BATCH}"], alone[f"{kind}, {BATCH // processes}"]
            model = share["seconds"] + row["calls"] * row["bare"]
            values = (row["cpu"], share["cpu"], row["seconds"], model, row["bare"])
            words = " | ".join(f"{1000 * each:.1f}" for each in values)
            print(f"| {kind} | {processes} | {words} |", flush=True)


def print_machines(latencies: Sequence[float], steps: int) -> None:
    print("\n| two machines, ms added to a packet | a bare collective, ms | ms a step | by the model | collectives |")
    print("|---|---|---|---|---|")
    kind = TIMED[0]
    alone = launch(1, [kind], [BATCH // 2], steps)[f"{kind}, {BATCH // 2}"]["seconds"]
    for latency in latencies or [None]:
        if latency is None:
            found = launch(2, [kind], [BATCH], steps, [([], {}), ([], {})])
        else:
            with two_namespaces(latency / 1000) as (machines, address):
                found = launch(2, [kind], [BATCH], steps, machines, address)
        row = found[f"{kind}, {BATCH}"]
        values = (row["bare"], row["seconds"], alone + row["calls"] * row["bare"])
        name = "none, loopback" if latency is None else f"{latency:g}"
        words = " | ".join(f"{1000 * each:.1f}" for each in values)
        print(f"| {name} | {words} | {row['calls']:.0f} |", flush=True)
    print(
        f"\n{found['machines']['processes']} processes on {found['machines']['machines']} machines, each with a cache."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4], help="besides one")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--machines", action="store_true", help="only two machines")
    parser.add_argument("--latency", type=float, nargs="+", help="milliseconds between two machines")
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)  # what a launched process is asked for
    args = parser.parse_args()
    if args.work:
        work(args.work)
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, gloo, batch {BATCH}\n")
    if args.machines or args.latency:
        print_machines(args.latency, args.steps)
        return
    by_processes = {
        processes: launch(processes, list(KINDS) if processes == 2 else list(TIMED), [BATCH], args.steps)
        for processes in args.processes
    }
    if 2 in by_processes:
        print_exchanged(by_processes[2])
    shares = sorted({BATCH, *(BATCH // processes for processes in args.processes)})
    print_costs(launch(1, list(TIMED), shares, args.steps), by_processes)


if __name__ == "__main__":
    main()
