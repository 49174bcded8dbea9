"""What everything costs on a GPU: `python benchmarks/gpu.py` prints Markdown tables, in at most 8 minutes.

- text: features of all class texts and the gradient to the context; the texts padded, cut, and behind their shared
  prefix.
- step: a training step: plain, SAM, SAM from image features, the same compiled into CUDA graphs, and the papers' way.
- run: a whole run of 16 shots from image features at ViT-B/16's size, 72 classes for 50 epochs, with SAM.
- memory: a SAM step with the 1000 classes of ImageNet and 16 context tokens, against 4 GiB.
- devices: a prompted CLIP on the GPU against the same on the CPU.
- jobs: the main job, `sharp-prompt base2novel`, under `no`, `bf16` and `fp16`.
- tests: those that need CUDA, and the Trainer's on the GPU.

What fails has a row that says why, and the exit code is 1. What no longer fits into the time is skipped, and its row
says so. `--device cpu --tiny` tries every part in a minute on a CPU, where its figures mean nothing.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from device_cost import Cost, Table, Time, measure_cost, measure_product
from text_encoder import Case
from torch.nn.functional import cross_entropy, normalize
from transformers import PrinterCallback, TrainerCallback, TrainerControl
from transformers.utils import logging
from vit_b16 import EOS, make_clip, make_images, make_texts, with_prompt

from hf_sharp_prompt import SharpPromptTrainer, SharpPromptTrainingArguments, sharpness
from hf_sharp_prompt.data import ImageFeatures


ROOT = Path(__file__).parents[1]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LIMIT_GIB = 4
"""What a step with ImageNet's classes may take."""


@dataclass
class Size:
    """How large everything is.

    Args:
        classes: The numbers of classes whose texts are encoded and trained.
        context: The number of context tokens.
        batch: Images a step.
        most_classes: ImageNet's number of classes.
        run: Classes, shots and epochs of the whole run.
        repeats: Calls whose median is taken.
        product: The number of rows of the matrices whose product is the peak.
        model: Sizes of both towers, where they are not ViT-B/16's.
    """

    classes: tuple[int, ...] = (100, 1000)
    context: int = 16
    batch: int = 32
    most_classes: int = 1000
    run: tuple[int, int, int] = (72, 16, 50)
    repeats: int = 10
    product: int = 8192
    model: dict[str, int] | None = None


TINY = Size(
    classes=(3,),
    context=2,
    batch=2,
    most_classes=4,
    run=(3, 2, 2),
    repeats=1,
    product=64,
    model={"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4},
)


@dataclass
class Setting:
    """Where things are measured, how large they are, and until when."""

    device: torch.device
    size: Size
    time: Time

    @property
    def precisions(self) -> list[str]:
        """Those that are measured; a CPU has no loss scaler, which float16 needs."""
        return [name for name in DTYPES if self.device.type == "cuda" or name != "fp16"]

    @property
    def compile_options(self) -> dict[str, str]:
        """What `torch.compile` is asked for; on a CPU nothing that takes long."""
        return {"mode": "reduce-overhead"} if self.device.type == "cuda" else {"backend": "eager"}

    def make_model(self, classes: int) -> Any:
        return with_prompt(make_clip(**self.size.model or {}), classes, self.size.context).to(self.device)

    def peak(self, precision: str) -> float:
        """Operations per second of a large product."""
        return measure_product(self.size.product, DTYPES[precision], self.device)

    def cost(self, function: Callable[[], object], counted: Callable[[], object] | None = None) -> Cost:
        return measure_cost(function, counted or function, self.device, self.size.repeats)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny models, to try the command itself")
    parser.add_argument("--minutes", type=float, default=8, help="how long everything may take")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --device cpu --tiny tries the command")
    time = Time(60 * args.minutes)
    setting = Setting(torch.device(args.device), TINY if args.tiny else Size(), time)
    card = torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"# {card}\n\ntorch {torch.__version__}, CUDA {torch.version.cuda}", flush=True)
    failed = []
    for name in args.parts:
        part, started = PARTS[name], perf_counter()
        print(f"\n## {name}\n\n{inspect.getdoc(part)}\n", flush=True)
        table = Table(time)
        table.attempt(partial(part, setting, table))
        failed += [name] * table.failed
        print(f"\n{perf_counter() - started:.0f} s", flush=True)
    print(f"\nFailed: {', '.join(failed) or 'nothing'}. {time.spent:.0f} s in all.")
    return 1 if failed else 0


def text(setting: Setting, table: Table) -> None:
    """Features of the classes' texts and the gradient to the context; differences are relative to the first way."""
    table.head("classes", "precision", "way", *Cost.HEADINGS, "features differ by")
    model = setting.size.model or {}
    sizes = {"width": model["hidden_size"], "layers": model["num_hidden_layers"]} if model else {}
    for classes in setting.size.classes:
        for precision in setting.precisions:
            name = str(DTYPES[precision]).removeprefix("torch.")
            case = Case(classes, setting.size.context, name, device=setting.device, **sizes)
            features: list[torch.Tensor] = []
            for way in ("padded", "cut", "shared"):
                table.row([classes, precision, way], partial(measure_text, setting, case, way, precision, features))


def measure_text(setting: Setting, case: Case, way: str, precision: str, features: list[torch.Tensor]) -> list[str]:
    """Return the cells of a row; the features are added to those of the ways before."""
    features.append(case.run(way)[0].float())
    cost = setting.cost(partial(case.run, way))
    difference = (features[-1] - features[0]).abs().max() / features[0].abs().max()
    return [*cost.cells(setting.peak(precision)), f"{float(difference):.0e}"]


class Steps:
    """A prompted model, a batch, and the ways to take a step; each leaves the direction in the prompt's gradient."""

    WAYS = ("plain", "SAM", "SAM, cached", "papers' way", "SAM, cached, compiled")

    def __init__(self, classes: int, precision: str, setting: Setting) -> None:
        self.setting, self.precision = setting, precision
        self.model = setting.make_model(classes)
        self.compiled = torch.compile(self.model, **setting.compile_options)
        self.prompt = next(parameter for parameter in self.model.parameters() if parameter.requires_grad)
        images, labels = make_images(setting.size.batch, classes)
        self.pixels, self.labels = images.to(setting.device), labels.to(setting.device)
        length = 77 - setting.size.context
        padded = [ids + [EOS] * (length - len(ids)) for ids in make_texts(classes)]
        self.padded = torch.tensor(padded, device=setting.device)
        self.features = self.encode()

    def autocast(self) -> Any:
        dtype = DTYPES[self.precision]
        return nullcontext() if dtype == torch.float32 else torch.autocast(self.setting.device.type, dtype)

    def encode(self) -> torch.Tensor:
        with self.autocast():
            return self.model.encode_images(pixel_values=self.pixels)

    def take(self, way: str) -> torch.Tensor:
        """Take a step in one of the ways; return its direction."""
        ways = {
            "plain": lambda: self.follow("none", self.loss_of_features(self.model, self.encode())),
            "SAM": lambda: self.follow("sam", self.loss_of_features(self.model, self.encode())),
            "SAM, cached": lambda: self.follow("sam", self.loss_of_features(self.model, self.features)),
            "SAM, cached, compiled": lambda: self.follow("sam", self.loss_of_features(self.compiled, self.features)),
            "papers' way": lambda: self.follow("sam", self.loss_of_papers),
        }
        return ways[way]()

    def loss_of_features(self, model: Any, features: torch.Tensor) -> Callable[[], torch.Tensor]:
        return lambda: model(image_features=features, labels=self.labels).loss

    def loss_of_papers(self) -> torch.Tensor:
        images = normalize(self.model.encode_images(pixel_values=self.pixels).float(), dim=-1)
        texts = normalize(self.model.get_text_features(input_ids=self.padded).pooler_output.float(), dim=-1)
        return cross_entropy(self.model.logit_scale.exp() * images @ texts.T, self.labels)

    def follow(self, rule: str, loss: Callable[[], torch.Tensor]) -> torch.Tensor:
        def closure() -> torch.Tensor:
            with self.autocast():
                return loss()

        self.prompt.grad = None
        sharpness.SharpnessAware(sharpness.create(rule), self.model).backward(closure)
        assert self.prompt.grad is not None
        return self.prompt.grad


def step(setting: Setting, table: Table) -> None:
    """CoOp's step, images of 224 × 224 pixels. The direction's norm is that of SAM in all but the plain way."""
    table.head("classes", "precision", "way", *Cost.HEADINGS, "direction's norm")
    for classes in setting.size.classes:
        for precision in setting.precisions:
            steps = Steps(classes, precision, setting)
            # It takes a minute to compile, so that one case stands for all.
            compiles = precision == "bf16" and classes == setting.size.classes[0]
            for way in Steps.WAYS if compiles else Steps.WAYS[:-1]:
                table.row([classes, precision, way], partial(measure_step, setting, steps, way), at_most=120)


def measure_step(setting: Setting, steps: Steps, way: str) -> list[str]:
    norm = float(steps.take(way).norm())
    cost = setting.cost(partial(steps.take, way), partial(steps.take, way.removesuffix(", compiled")))
    return [*cost.cells(setting.peak(steps.precision)), f"{norm:.4e}"]


class Steady(TrainerCallback):
    """Notes when each step ended, and ends the run when its time is over."""

    def __init__(self, seconds: float) -> None:
        self.ends, self.until = [perf_counter()], perf_counter() + seconds

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **kwargs: Any) -> None:
        self.ends.append(perf_counter())
        control.should_training_stop |= self.ends[-1] > self.until

    @property
    def milliseconds(self) -> float:
        """The median of the steps of the run's second half, in which everything is compiled."""
        ends = self.ends[len(self.ends) // 2 :]
        return 1e3 * median(after - before for before, after in pairwise(ends))


def run(setting: Setting, table: Table) -> None:
    """A run of the Trainer with SAM, from image features, with all that it does beside its steps.

    It is stopped where it takes too long; ≈ then says what the whole would take. A compiled run compiles in its first
    steps.
    """
    table.head("classes", "shots", "precision", "compiled", "steps", "ms a step", "first step, s", "whole run, s")
    for precision, compiled in (*((each, False) for each in setting.precisions), ("bf16", True)):
        measure = partial(measure_run, setting, precision, compiled)
        table.row([*setting.size.run[:2], precision, "yes" if compiled else "no"], measure, at_most=120)


def measure_run(setting: Setting, precision: str, compiled: bool) -> list[str]:
    classes, shots, epochs = setting.size.run
    model = setting.make_model(classes)
    width = model.config.projection_dim
    labels = torch.arange(classes).repeat(shots)
    data = ImageFeatures(torch.randn(len(labels), 1, width), labels, model.active_peft_config.class_names)
    options = {f"torch_compile_{name}": value for name, value in setting.compile_options.items()} if compiled else {}
    with tempfile.TemporaryDirectory() as directory:
        arguments = SharpPromptTrainingArguments(
            directory,
            sharpness="sam",
            per_device_train_batch_size=setting.size.batch,
            num_train_epochs=epochs,
            learning_rate=0.002,
            optim="sgd",
            save_strategy="no",
            logging_strategy="epoch",
            report_to="none",
            disable_tqdm=True,
            use_cpu=setting.device.type == "cpu",
            bf16=precision == "bf16",
            fp16=precision == "fp16",
            **options,
        )
        steady = Steady(min(70, setting.time.left / 2))
        trainer = SharpPromptTrainer(model, arguments, train_dataset=data, callbacks=[steady])
        trainer.remove_callback(PrinterCallback)
        started = perf_counter()
        trainer.train()
        seconds = perf_counter() - started
    steps, of_all = trainer.state.global_step, trainer.state.max_steps
    whole = seconds + (of_all - steps) * steady.milliseconds / 1e3
    about = "≈ " if steps < of_all else ""
    first = steady.ends[1] - steady.ends[0]
    return [f"{steps} of {of_all}", f"{steady.milliseconds:.2f}", f"{first:.1f}", f"{about}{whole:.1f}"]


def memory(setting: Setting, table: Table) -> None:
    """A SAM step from image features with ImageNet's classes, at once and in chunks; it fails above 4 GiB."""
    classes = setting.size.most_classes
    table.head("classes", "precision", "classes at a time", *Cost.HEADINGS)
    for precision in setting.precisions:
        for chunk in (None, classes // 4):
            table.row([classes, precision, chunk or "all"], partial(measure_memory, setting, precision, chunk))


def measure_memory(setting: Setting, precision: str, chunk: int | None) -> list[str]:
    steps = Steps(setting.size.most_classes, precision, setting)
    steps.model.active_peft_config.class_chunk_size = chunk
    cost = setting.cost(partial(steps.take, "SAM, cached"))
    if cost.gib is not None and cost.gib > LIMIT_GIB:
        raise RuntimeError(f"A step takes {cost.gib:.2f} GiB, more than {LIMIT_GIB}.")
    return cost.cells(setting.peak(precision))


def devices(setting: Setting, table: Table) -> None:
    """A prompted CLIP of two layers on the device against the same on the CPU; it fails from 1e-3 on."""
    table.head("context at", "logits differ by", "gradient by", "without adapter by")
    clip = make_clip(**(setting.size.model or {"num_hidden_layers": 2}))
    for position in ("end", "middle", "front"):
        table.row([position], partial(compare_devices, setting, clip, position))


def compare_devices(setting: Setting, clip: Any, position: str) -> list[str]:
    values = [evaluate_on(device, copy.deepcopy(clip), position) for device in (torch.device("cpu"), setting.device)]
    differences = [float((a - b).abs().max() / a.abs().max()) for a, b in zip(*values)]
    cells = [f"{difference:.0e}" for difference in differences]
    if not all(difference <= 1e-3 for difference in differences):  # as with NaN
        raise RuntimeError(f"They differ by {', '.join(cells)}.")
    return cells


def evaluate_on(device: torch.device, clip: Any, position: str) -> list[torch.Tensor]:
    """Return logits, the gradient to the context, and logits without the adapter, on the CPU."""
    torch.manual_seed(0)
    model = with_prompt(clip, 3, 4, class_token_position=position).to(device)
    pixels, labels = (tensor.to(device) for tensor in make_images(2, 3))
    # The convolution's default precision on a GPU is lower.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        model(pixel_values=pixels, labels=labels).loss.backward()
    prompt = next(parameter for parameter in model.parameters() if parameter.requires_grad)
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        logits = model(pixel_values=pixels).logits
        with model.disable_adapter():
            base = model(pixel_values=pixels).logits
    assert prompt.grad is not None
    return [logits.cpu(), prompt.grad.cpu(), base.cpu()]


def jobs(setting: Setting, table: Table) -> None:
    """The main job on the demo as users start it, in each precision."""
    table.head("precision", "seconds", "result")
    tiny = setting.size is TINY
    arguments = ["--smoke"] if tiny else ["--seeds", "1", "--num_train_epochs", "10"]
    for precision in setting.precisions:
        name = {"fp32": "no"}.get(precision, precision)
        row = partial(run_job, setting, name, ["--recipes", "coop_sam", *arguments])
        table.row([name], row, at_most=None)


def run_job(setting: Setting, precision: str, arguments: list[str]) -> list[str]:
    launcher = ["-m", "accelerate.commands.launch", "-q", "--num_processes", "1", "--num_machines", "1"]
    launcher += ["--dynamo_backend", "no", "--mixed_precision", precision]
    launcher += ["--cpu"] if setting.device.type == "cpu" else []
    started = perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        words = [*launcher, str(ROOT / "examples" / "run_base2novel.py"), *arguments, "--output_dir", directory]
        printed = run_python(words, setting)
    results = re.findall(r"seed \d+: (.*?)(?: in [\d.]+ s)?$", printed, re.MULTILINE)
    return [f"{perf_counter() - started:.0f}", "; ".join(results)]


def tests(setting: Setting, table: Table) -> None:
    """The tests that need CUDA, and those of the Trainer on the device."""
    table.head("tests", "result")
    # On a CPU the whole suite runs the Trainer's tests anyway.
    of_trainer = ("waiting",) if setting.size is TINY else ("checkpoint", "trainer", "waiting")
    chosen = {
        "that need CUDA": ["-m", "cuda", "tests/training/test_cuda.py"],
        "of the Trainer": [f"tests/training/test_{name}.py" for name in of_trainer],
    }
    for name, words in chosen.items():
        table.row([name], partial(run_tests, setting, words), at_most=None)


def run_tests(setting: Setting, words: list[str]) -> list[str]:
    environment = {"HF_SHARP_PROMPT_TEST_DEVICE": setting.device.type}
    workers = "0" if setting.size is TINY else "8"
    printed = run_python(["-m", "pytest", "-n", workers, "--verbosity", "0", *words], setting, environment)
    return [printed.strip().splitlines()[-1].strip("= ")]


def run_python(words: list[str], setting: Setting, environment: dict[str, str] | None = None) -> str:
    """Run Python with these words, and return what it prints. When the time is over it ends, and its children too.

    Raises:
        RuntimeError: It fails; the end of what it said is in the message.
    """
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path} | (environment or {}),
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        raise RuntimeError(f"Exit code {process.returncode}: {printed[-1500:]}")
    return printed


PARTS = {part.__name__: part for part in (text, step, run, memory, devices, jobs, tests)}


if __name__ == "__main__":
    logging.set_verbosity_error()
    sys.exit(main())
