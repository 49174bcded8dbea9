"""What a GPU has to show, once: `python benchmarks/gpu_check.py` writes one Markdown report, in at most 8 minutes.

- A prompted CLIP on the device against the same on the CPU.
- The main job (`examples/run_base2novel.py`) and the long-tailed one under `no`, `bf16` and `fp16`.
- A fresh run against one that was killed and continued: the same bits, or what differs.
- The tables of a training step and of the text encoder, with kernel launches, device time and peak memory.
- The Trainer's tests, on the device.

Each part is a process of its own, which is stopped when the time is over. What a part has printed by then is in the
report, and the next part begins whether or not it fails; the exit code is 1 if one failed. The device is CUDA's first;
`--device cpu` does a reduced check of everything in a few minutes, so that the script itself is tested.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TextIO

import torch


ROOT = Path(__file__).parents[1]
PARTS = ("tuners", "jobs", "resume", "steps", "text", "tests")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--report", type=Path, default=Path("gpu_check.md"), help="the file to write")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seconds", type=float, default=480, help="how long all parts together may take")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --device cpu does a reduced check")
    failed = write_report(args.report, args.parts, args.device, args.seconds)
    print(args.report.read_text(encoding="utf-8"))
    return 1 if failed else 0


def write_report(path: Path, parts: Sequence[str], device: str, seconds: float) -> list[str]:
    """Do the parts in turn, and write what they print.

    Returns:
        The parts that failed.
    """
    deadline, failed = monotonic() + seconds, []
    card = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    with path.open("w", encoding="utf-8", buffering=1) as report:
        report.write(f"# GPU check\n\n{card}; torch {torch.__version__}, CUDA {torch.version.cuda}.\n")
        for name in parts:
            report.write(f"\n## {name}\n\n")
            started = monotonic()
            if failure := run_part(name, device, deadline - started, report):
                failed.append(name)
                report.write(f"\n**FAILED**: {failure}\n")
            report.write(f"\n{monotonic() - started:.0f} s\n")
        verdict = f"FAILED: {', '.join(failed)}" if failed else "everything passed"
        report.write(f"\n**{card}: {verdict}.**\n")
    return failed


def run_part(name: str, device: str, seconds: float, report: TextIO) -> str | None:
    """Do a part in a process that prints to the report; end it, and what it started, when the time is over.

    Returns:
        Why it failed; None if it did not.
    """
    if seconds <= 0:
        return "The time was over before it began."
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "PYTHONUNBUFFERED": "1",  # so that the report has what was printed before the process was stopped
            "TMPDIR": scratch,  # which a process that is stopped leaves behind
        }
        process = subprocess.Popen(
            [sys.executable, ROOT / "benchmarks" / "gpu_parts.py", name, "--device", device],
            env=environment | ({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}),
            stdout=report,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            _, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"It was stopped after {seconds:.0f} s, when the time was over."
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return f"Exit code {process.returncode}: {errors[-3000:]}" if process.returncode else None


if __name__ == "__main__":
    sys.exit(main())
