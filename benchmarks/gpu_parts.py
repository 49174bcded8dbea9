"""The parts of gpu_check.py: `python benchmarks/gpu_parts.py tuners` does one.

A part prints Markdown, and raises if something is wrong. On a CPU the sizes are those that it measures in seconds.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import torch
from peft import PeftModel
from safetensors.torch import load_file
from text_encoder import Case
from torch.autograd import DeviceType
from torch.nn.functional import cross_entropy, normalize
from torch.profiler import ProfilerActivity, profile
from vit_b16 import EOS, make_clip, make_images, make_texts, with_prompt

from hf_sharp_prompt import sharpness


ROOT = Path(__file__).parents[1]
TESTS = ("tests/training/test_checkpoint.py", "tests/training/test_trainer.py")
"""The tests whose runs of the Trainer follow HF_SHARP_PROMPT_TEST_DEVICE."""
LAUNCHES = {"cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx"}


@dataclass
class Settings:
    """What is measured.

    Args:
        device: "cuda" or "cpu". On a CPU the sizes are those that it measures in seconds.
    """

    device: str

    @property
    def small(self) -> bool:
        return self.device == "cpu"

    @property
    def precisions(self) -> tuple[str, ...]:
        return ("no", "bf16") if self.small else ("no", "bf16", "fp16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    args = parser.parse_args()
    check = PARTS[args.part]
    print(f"{check.__doc__}\n")
    check(Settings(args.device))


def jobs(settings: Settings) -> None:
    """The examples as users start them, in each precision."""
    recipes = ["coop_sam"] if settings.small else ["coop", "coop_sam", "gcscoop"]
    images, epochs = ("2", "1") if settings.small else ("10", "10")
    arguments_of = {
        "run_base2novel.py": ["--recipes", *recipes, "--shots", images],
        "run_long_tail.py": ["--recipes", "vpt_sam", "--imbalance_factor", images, "--max_per_class", images],
    }
    print("| job | precision | exit code | seconds | result |\n|---|---|---|---|---|")
    wrong = []
    with tempfile.TemporaryDirectory() as directory:
        for script, arguments in arguments_of.items():
            for precision in settings.precisions:
                started = perf_counter()
                output_dir = Path(directory, script, precision)
                options = ["--seeds", "1", "--num_train_epochs", epochs, "--output_dir", str(output_dir)]
                finished = launch(script, precision, [*arguments, *options], settings)
                seconds = perf_counter() - started
                lines = re.findall(r"^.*, seed \d+: (.*)$", finished.stdout, re.MULTILINE)
                said = "; ".join(lines) or finished.stderr[-300:].replace("\n", " ")
                print(f"| {script} | {precision} | {finished.returncode} | {seconds:.0f} | {said} |")
                if finished.returncode:
                    wrong.append(f"{script} under {precision}: {finished.stderr[-1000:]}")
    if wrong:
        raise RuntimeError("\n".join(wrong))


def launch(script: str, precision: str, arguments: list[str], settings: Settings) -> subprocess.CompletedProcess:
    launcher = ["-m", "accelerate.commands.launch", "-q", "--num_processes", "1", "--num_machines", "1"]
    launcher += ["--dynamo_backend", "no", "--mixed_precision", precision]
    launcher += ["--cpu"] if settings.device == "cpu" else []
    command = [sys.executable, *launcher, str(ROOT / "examples" / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def resume(settings: Settings) -> None:
    """A run that is killed and continued against one that is not."""
    arguments = ["--recipes", "gcscoop", "--seeds", "1", "--shots", "4", "--num_train_epochs", "30"]
    command = [sys.executable, str(ROOT / "examples" / "run_base2novel.py"), *arguments]
    command += ["--use_cpu"] if settings.device == "cpu" else []
    with tempfile.TemporaryDirectory() as directory:
        whole, killed = Path(directory, "whole"), Path(directory, "killed")
        subprocess.run([*command, "--output_dir", whole], check=True, stdout=subprocess.DEVNULL)
        process = subprocess.Popen([*command, "--output_dir", killed], stdout=subprocess.DEVNULL)
        while not list(killed.rglob("checkpoint-*/trainer_state.json")):
            if process.poll() is not None:
                raise RuntimeError("The run to be killed ended before its first checkpoint.")
            sleep(0.02)
        process.kill()
        process.wait()
        subprocess.run([*command, "--output_dir", killed], check=True, stdout=subprocess.DEVNULL)
        compare_runs(whole, killed)


def compare_runs(whole: Path, continued: Path) -> None:
    (first,), (second,) = (list(path.rglob("seed1/adapter_model.safetensors")) for path in (whole, continued))
    tensors, others = load_file(first), load_file(second)
    difference = max(float((tensors[name] - others[name]).abs().max()) for name in tensors)
    measured = [json.loads((path.parent / "metrics.json").read_text()) for path in (first, second)]
    same = first.read_bytes() == second.read_bytes()
    print("Prompts: the same bits." if same else f"Prompts differ by at most {difference:.1e}.")
    print(f"\nHarmonic means: {measured[0]['hm']:.4f} and {measured[1]['hm']:.4f}.")
    if not difference <= 1e-3:  # as with NaN
        raise RuntimeError(f"A continued run differs by {difference:.1e}, more than the order of sums explains.")


def tests(settings: Settings) -> None:
    """The tests, with models and data where the Trainer puts them."""
    files, workers = (TESTS[:1], "0") if settings.small else (TESTS, "8")
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", workers, *files],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"HF_SHARP_PROMPT_TEST_DEVICE": settings.device},
    )
    print("```\n" + "\n".join(finished.stdout.splitlines()[-15:]) + "\n```")
    if finished.returncode:
        raise RuntimeError("Tests fail, see above.")


def tuners(settings: Settings) -> None:
    """A prompted CLIP on the device against the same on the CPU: logits, gradient, and the base model beneath."""
    print("| context at | logits differ by | gradient by | without adapter by |\n|---|---|---|---|")
    wrong = []
    clip, (pixels, labels) = make_clip(2), make_images(2, 3)
    for position in ("end", "middle", "front"):
        values = []
        for device in ("cpu", settings.device):
            torch.manual_seed(0)
            model = with_prompt(copy.deepcopy(clip), 3, 4, class_token_position=position).to(device)
            model(pixel_values=pixels.to(device), labels=labels.to(device)).loss.backward()
            prompt = next(parameter for parameter in model.parameters() if parameter.requires_grad)
            with torch.no_grad():
                logits = model(pixel_values=pixels.to(device)).logits.cpu()
                with model.disable_adapter():
                    base = model(pixel_values=pixels.to(device)).logits.cpu()
            assert prompt.grad is not None
            values.append((logits, prompt.grad.cpu(), base))
        differences = [float((a - b).abs().max() / a.abs().max()) for a, b in zip(*values)]
        print(f"| {position} | {' | '.join(f'{difference:.0e}' for difference in differences)} |")
        if not all(difference <= 1e-3 for difference in differences):  # as with NaN
            wrong.append(position)
    if wrong:
        raise RuntimeError(f"A prompted CLIP differs from the CPU's with the context at {', '.join(wrong)}.")


def steps(settings: Settings) -> None:
    """CoOp's step at ViT-B/16's size, in the ways of benchmarks/step.py, by precision."""
    print("| classes | precision | way | ms a step | of plain | launches | device ms | peak GiB | direction |")
    print("|---|---|---|---|---|---|---|---|---|")
    classes_and_batches = [(5, 2)] if settings.small else [(100, 32), (1000, 32)]
    for classes, batch in classes_and_batches:
        step = Step(classes, batch, settings)
        for precision in settings.precisions:
            step.precision = precision
            plain = None
            for way in Step.WAYS:
                cost = measure(getattr(step, way), settings, 2 if settings.small else 10)
                plain = plain or cost.milliseconds
                assert step.prompt.grad is not None
                norm = float(step.prompt.grad.norm())
                print(
                    f"| {classes} | {precision} | {way} | {cost.milliseconds:.2f} | {cost.milliseconds / plain:.2f} "
                    f"| {cost.launches:.0f} | {cost.device_milliseconds:.2f} | {cost.gib:.3f} | {norm:.4e} |"
                )


class Step:
    """A model, a batch, and the ways to take a step."""

    WAYS = ("plain", "sam", "cached", "papers")

    def __init__(self, classes: int, batch: int, settings: Settings) -> None:
        self.device, self.precision = settings.device, "no"
        self.model: PeftModel = with_prompt(make_clip(2 if settings.small else 12), classes, 16).to(self.device)
        self.prompt = next(parameter for parameter in self.model.parameters() if parameter.requires_grad)
        self.pixels, self.labels = (tensor.to(self.device) for tensor in make_images(batch, classes))
        self.padded = torch.tensor([ids + [EOS] * (77 - 16 - len(ids)) for ids in make_texts(classes)]).to(self.device)
        self.features = self.encode().float()

    def autocast(self) -> torch.autocast:
        dtype = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]
        return torch.autocast(self.device, dtype, enabled=dtype is not None)

    def encode(self) -> torch.Tensor:
        with self.autocast():
            return self.model.encode_images(pixel_values=self.pixels)

    def follow(self, rule: str, loss: Callable[[], torch.Tensor]) -> None:
        def closure() -> torch.Tensor:
            with self.autocast():
                return loss()

        self.prompt.grad = None
        sharpness.SharpnessAware(sharpness.create(rule), [self.prompt]).backward(closure)

    def plain(self) -> None:
        features = self.encode()
        self.follow("none", lambda: self.model(image_features=features, labels=self.labels).loss)

    def sam(self) -> None:
        features = self.encode()
        self.follow("sam", lambda: self.model(image_features=features, labels=self.labels).loss)

    def cached(self) -> None:
        self.follow("sam", lambda: self.model(image_features=self.features, labels=self.labels).loss)

    def papers(self) -> None:
        def loss() -> torch.Tensor:
            images = normalize(self.model.encode_images(pixel_values=self.pixels).float(), dim=-1)
            texts = normalize(self.model.get_text_features(input_ids=self.padded).pooler_output.float(), dim=-1)
            return cross_entropy(self.model.logit_scale.exp() * images @ texts.T, self.labels)

        self.follow("sam", loss)


def text(settings: Settings) -> None:
    """The ways of benchmarks/text_encoder.py: what the shared prefix saves."""
    print("| classes | dtype | way | ms | launches | device ms | peak GiB | features differ by |")
    print("|---|---|---|---|---|---|---|---|")
    dtypes = ("float32",) if settings.small else ("float32", "bfloat16", "float16")
    for classes in (2,) if settings.small else (100, 1000):
        for dtype in dtypes:
            case = Case(classes, 16, dtype)
            reference = case.run("cut")[0].float()
            ways = ("cut", "shared") if classes > 100 else ("padded", "cut", "shared")
            for way in ways:
                difference = (case.run(way)[0].float() - reference).abs().max() / reference.abs().max()
                cost = measure(partial(case.run, way), settings, 1 if settings.small else 5)
                print(
                    f"| {classes} | {dtype} | {way} | {cost.milliseconds:.2f} | {cost.launches:.0f} "
                    f"| {cost.device_milliseconds:.2f} | {cost.gib:.3f} | {float(difference):.0e} |"
                )


@dataclass
class Cost:
    """What one call costs; a CPU has no other figure than the first.

    Attributes:
        milliseconds: Wall-clock time.
        device_milliseconds: Time in kernels.
        launches: Kernels launched.
        gib: The peak of memory above what was held before.
    """

    milliseconds: float
    device_milliseconds: float = 0.0
    launches: int = 0
    gib: float = 0.0


def measure(function: Callable[[], object], settings: Settings, repeats: int) -> Cost:
    """The cost of a call, after one that is not counted; times are the median of several calls."""
    function()
    if settings.device == "cpu":
        return Cost(milliseconds_of(function, repeats))
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    milliseconds = milliseconds_of(function, repeats, torch.cuda.synchronize)
    gib = (torch.cuda.max_memory_allocated() - held) / 2**30
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        function()
        torch.cuda.synchronize()
    events = profiled.key_averages()
    launches = sum(event.count for event in events if event.key in LAUNCHES)
    # An operation on the CPU is credited with the time of its kernels, which are separate events.
    kernels = [each for each in events if each.device_type != DeviceType.CPU and not each.is_user_annotation]
    return Cost(milliseconds, sum(each.self_device_time_total for each in kernels) / 1e3, launches, gib)


def milliseconds_of(function: Callable[[], object], repeats: int, wait: Callable[[], object] = lambda: None) -> float:
    times = []
    for _ in range(repeats):
        wait()
        started = perf_counter()
        function()
        wait()
        times.append(perf_counter() - started)
    return 1e3 * median(times)


PARTS = {check.__name__: check for check in (tuners, jobs, resume, steps, text, tests)}


if __name__ == "__main__":
    main()
