"""What a GPU has to show, once: `python benchmarks/gpu_check.py` writes one Markdown report, in at most 8 minutes.

- The main job (`examples/run_base2novel.py`) and the long-tailed one under `no`, `bf16` and `fp16`.
- A fresh run against one that was killed and continued: the same bits, or what differs.
- The tests that do not depend on the CPU, on the device.
- The tables of a training step and of the text encoder, with kernel launches, device time and peak memory.

Each part is reported whether or not it fails; the exit code is 1 if one failed. The device is CUDA's first;
`--device cpu` does a reduced check of everything in a few minutes, so that the script itself is tested.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter, sleep

import torch
from peft import PeftModel
from text_encoder import Case
from torch.nn.functional import cross_entropy, normalize
from torch.profiler import ProfilerActivity, profile
from vit_b16 import EOS, make_clip, make_images, make_texts, with_prompt

from hf_sharp_prompt import sharpness


ROOT = Path(__file__).parents[1]
LONGEST = 480  # seconds, of everything
TESTS = ("tests/sharpness/test_m_sharpness.py", "tests/training/test_checkpoint.py", "tests/training/test_trainer.py")
"""The tests whose runs of the Trainer follow HF_SHARP_PROMPT_TEST_DEVICE."""
LAUNCHES = {"cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx"}


@dataclass
class Settings:
    """What is measured.

    Args:
        device: "cuda" or "cpu".
        small: Take sizes that a CPU measures in seconds.
    """

    device: str
    small: bool

    @property
    def precisions(self) -> tuple[str, ...]:
        return ("no", "bf16", "fp16") if self.device == "cuda" else ("no", "bf16")

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


class Report:
    """Markdown, written part by part, so that what was measured stays when a later part fails."""

    def __init__(self, path: Path) -> None:
        self.path, self.lines, self.failed = path, [], []
        self.deadline = monotonic() + LONGEST

    def write(self, text: str = "") -> None:
        self.lines.append(text)
        self.path.write_text("\n".join(self.lines) + "\n", encoding="utf-8")
        print(text, flush=True)

    def part(self, title: str, check: Callable[[], None]) -> None:
        """Do a part of the check; what fails is reported, and the next part begins."""
        self.write(f"\n## {title}\n")
        started = monotonic()
        try:
            check()
        except Exception as error:
            self.failed.append(title)
            self.write(f"\n**FAILED**: {type(error).__name__}: {str(error)[:3000]}")
        self.write(f"\n{monotonic() - started:.0f} s")

    @property
    def seconds_left(self) -> float:
        return max(1.0, self.deadline - monotonic())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--report", type=Path, default=Path("gpu_check.md"), help="the file to write")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --device cpu does a reduced check")
    settings, report = Settings(args.device, args.device == "cpu"), Report(args.report)
    card = torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    report.write(f"# GPU check\n\n{card}; torch {torch.__version__}, CUDA {torch.version.cuda}.")
    for name in args.parts:
        title, check = PARTS[name]
        report.part(title, lambda check=check: check(settings, report))
    verdict = f"FAILED: {', '.join(report.failed)}" if report.failed else "everything passed"
    report.write(f"\n**{card}: {verdict}.**")
    return 1 if report.failed else 0


def check_jobs(settings: Settings, report: Report) -> None:
    """The examples as users start them, in each precision."""
    report.write("| job | precision | exit code | seconds | result |\n|---|---|---|---|---|")
    wrong = []
    with tempfile.TemporaryDirectory() as directory:
        for script, arguments in jobs(settings).items():
            for precision in settings.precisions:
                started = perf_counter()
                finished = launch(script, precision, arguments, Path(directory, script, precision), settings, report)
                lines = re.findall(r"^.*, seed \d+: (.*)$", finished.stdout, re.MULTILINE)
                seconds = perf_counter() - started
                said = "; ".join(lines) or finished.stderr[-300:].replace("\n", " ")
                report.write(f"| {script} | {precision} | {finished.returncode} | {seconds:.0f} | {said} |")
                if finished.returncode:
                    wrong.append(f"{script} under {precision}: {finished.stderr[-1000:]}")
    if wrong:
        raise RuntimeError("\n".join(wrong))


def jobs(settings: Settings) -> dict[str, list[str]]:
    """Arguments by script."""
    short = ["--seeds", "1", "--num_train_epochs", "2" if settings.small else "10"]
    recipes = ["coop_sam"] if settings.small else ["coop", "coop_sam", "gcscoop"]
    return {
        "run_base2novel.py": [*short, "--recipes", *recipes],
        "run_long_tail.py": [*short, "--recipes", "vpt_sam", "--max_per_class", "10", "--imbalance_factor", "10"],
    }


def launch(
    script: str, precision: str, arguments: list[str], output_dir: Path, settings: Settings, report: Report
) -> subprocess.CompletedProcess:
    launcher = ["-m", "accelerate.commands.launch", "-q", "--num_processes", "1", "--num_machines", "1"]
    launcher += ["--dynamo_backend", "no", "--mixed_precision", precision]
    launcher += ["--cpu"] if settings.device == "cpu" else []
    command = [sys.executable, *launcher, str(ROOT / "examples" / script), *arguments, "--output_dir", str(output_dir)]
    return subprocess.run(
        command, capture_output=True, text=True, env=settings.environment, timeout=report.seconds_left
    )


def check_resume(settings: Settings, report: Report) -> None:
    """A run that is killed and continued against one that is not."""
    arguments = ["--recipes", "gcscoop", "--seeds", "1", "--shots", "4", "--num_train_epochs", "30"]
    command = [sys.executable, str(ROOT / "examples" / "run_base2novel.py"), *arguments]
    command += ["--use_cpu"] if settings.device == "cpu" else []
    options = {"env": settings.environment, "stdout": subprocess.DEVNULL}
    with tempfile.TemporaryDirectory() as directory:
        whole, killed = Path(directory, "whole"), Path(directory, "killed")
        subprocess.run([*command, "--output_dir", whole], check=True, timeout=report.seconds_left, **options)
        process = subprocess.Popen([*command, "--output_dir", killed], **options)
        while not list(killed.rglob("checkpoint-*/trainer_state.json")):
            if process.poll() is not None or report.seconds_left <= 1:
                process.kill()
                raise RuntimeError("The run to be killed ended, or time was up, before its first checkpoint.")
            sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        subprocess.run([*command, "--output_dir", killed], check=True, timeout=report.seconds_left, **options)
        compare_runs(whole, killed, report)


def compare_runs(whole: Path, continued: Path, report: Report) -> None:
    from safetensors.torch import load_file

    (first,), (second,) = (list(path.rglob("seed1/adapter_model.safetensors")) for path in (whole, continued))
    tensors, others = load_file(first), load_file(second)
    difference = max(float((tensors[name] - others[name]).abs().max()) for name in tensors)
    measured = [json.loads((path.parent / "metrics.json").read_text()) for path in (first, second)]
    same = first.read_bytes() == second.read_bytes()
    report.write("Prompts: the same bits." if same else f"Prompts differ by at most {difference:.1e}.")
    report.write(f"\nHarmonic means: {measured[0]['hm']:.4f} and {measured[1]['hm']:.4f}.")
    if not same and difference > 1e-3:
        raise RuntimeError(f"A continued run differs by {difference:.1e}, more than the order of sums explains.")


def check_tests(settings: Settings, report: Report) -> None:
    """The tests, with models and data where the Trainer puts them."""
    tests = TESTS[:1] if settings.small else TESTS
    command = [sys.executable, "-m", "pytest", "-n", "0" if settings.small else "8", *tests]
    environment = settings.environment | {"HF_SHARP_PROMPT_TEST_DEVICE": settings.device}
    limit = report.seconds_left if settings.small else min(180, report.seconds_left)
    finished = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=limit)
    report.write("```\n" + "\n".join(finished.stdout.splitlines()[-15:]) + "\n```")
    if finished.returncode:
        raise RuntimeError("Tests fail, see above.")


def check_tuners(settings: Settings, report: Report) -> None:
    """A prompted CLIP on the device against the same on the CPU: logits, gradient, and the base model beneath."""
    report.write("| context at | logits differ by | gradient by | without adapter by |\n|---|---|---|---|")
    wrong = []
    for position in ("end", "middle", "front"):
        pixels, labels = make_images(2, 3)
        values = []
        for device in ("cpu", settings.device):
            model = with_prompt(make_clip(2), 3, 4, class_token_position=position).to(device)
            model(pixel_values=pixels.to(device), labels=labels.to(device)).loss.backward()
            prompt = next(parameter for parameter in model.parameters() if parameter.requires_grad)
            with torch.no_grad():
                logits = model(pixel_values=pixels.to(device)).logits.cpu()
                with model.disable_adapter():
                    base = model(pixel_values=pixels.to(device)).logits.cpu()
            values.append((logits, prompt.grad.cpu(), base))
        differences = [float((a - b).abs().max() / a.abs().max()) for a, b in zip(*values)]
        report.write(f"| {position} | {' | '.join(f'{difference:.0e}' for difference in differences)} |")
        if max(differences) > 1e-3:
            wrong.append(position)
    if wrong:
        raise RuntimeError(f"A prompted CLIP differs from the CPU's with the context at {', '.join(wrong)}.")


def check_steps(settings: Settings, report: Report) -> None:
    """CoOp's step at ViT-B/16's size, in the ways of benchmarks/step.py, by precision."""
    report.write("| classes | precision | way | ms a step | of plain | launches | device ms | peak GiB | direction |")
    report.write("|---|---|---|---|---|---|---|---|---|")
    classes_and_batches = [(5, 2)] if settings.small else [(100, 32), (1000, 32)]
    for classes, batch in classes_and_batches:
        step = Step(classes, batch, settings)
        for precision in settings.precisions:
            step.precision = precision
            plain = None
            for way in Step.WAYS:
                cost = measure(getattr(step, way), settings, 2 if settings.small else 10)
                plain = plain or cost.milliseconds
                norm = float(step.prompt.grad.norm())
                report.write(
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


def check_text_encoder(settings: Settings, report: Report) -> None:
    """The ways of benchmarks/text_encoder.py: what the shared prefix saves."""
    report.write("| classes | dtype | way | ms | launches | device ms | peak GiB | features differ by |")
    report.write("|---|---|---|---|---|---|---|---|")
    dtypes = ("float32",) if settings.small else ("float32", "bfloat16", "float16")
    for classes in (2,) if settings.small else (100, 1000):
        for dtype in dtypes:
            case = Case(classes, 16, dtype)
            reference = case.run("cut")[0].float()
            ways = ("cut", "shared") if classes > 100 else ("padded", "cut", "shared")
            for way in ways:
                difference = (case.run(way)[0].float() - reference).abs().max() / reference.abs().max()
                cost = measure(partial(case.run, way), settings, 1 if settings.small else 5)
                report.write(
                    f"| {classes} | {dtype} | {way} | {cost.milliseconds:.2f} | {cost.launches:.0f} "
                    f"| {cost.device_milliseconds:.2f} | {cost.gib:.3f} | {float(difference):.0e} |"
                )


@dataclass
class Cost:
    """Of one call: wall-clock and device time, kernels launched, and the peak of memory above what was held."""

    milliseconds: float
    device_milliseconds: float
    launches: float
    gib: float


def measure(function: Callable[[], object], settings: Settings, repeats: int) -> Cost:
    """What a call costs, the median of several; on a CPU wall-clock time alone."""
    on_cuda = settings.device == "cuda"
    function()
    held = torch.cuda.memory_allocated() if on_cuda else 0
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(repeats):
        wait(on_cuda)
        started = perf_counter()
        function()
        wait(on_cuda)
        times.append(perf_counter() - started)
    gib = (torch.cuda.max_memory_allocated() - held) / 2**30 if on_cuda else 0.0
    if not on_cuda:
        return Cost(1e3 * median(times), 0.0, 0.0, gib)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        function()
        wait(on_cuda)
    events = profiled.key_averages()
    launches = sum(event.count for event in events if event.key in LAUNCHES)
    return Cost(1e3 * median(times), sum(event.self_device_time_total for event in events) / 1e3, launches, gib)


def wait(on_cuda: bool) -> None:
    if on_cuda:
        torch.cuda.synchronize()


PARTS: dict[str, tuple[str, Callable[[Settings, Report], None]]] = {
    "jobs": ("The main jobs", check_jobs),
    "resume": ("Killed and continued", check_resume),
    "tuners": ("Tuners against the CPU", check_tuners),
    "steps": ("A training step", check_steps),
    "text": ("The text encoder", check_text_encoder),
    "tests": ("Tests on the device", check_tests),
}


if __name__ == "__main__":
    sys.exit(main())
