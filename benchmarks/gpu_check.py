"""Check the package on a GPU: `python benchmarks/gpu_check.py` writes one Markdown report, in at most 8 minutes.

- A prompted CLIP on the device is compared with the same one on the CPU.
- The main job (`examples/run_base2novel.py`) and the long-tailed one run under `no`, `bf16` and `fp16`.
- A fresh run is compared with one that was killed and continued, bit by bit.
- A training step and the text encoder are measured, with kernel launches, device time and peak memory.
- The Trainer's tests run on the device.

Each part is a separate process, which is stopped when the time is over. The report has what a part has printed by
then, and the next part begins whether or not it failed; the exit code is 1 if one failed. The device is CUDA's first.
`--device cpu` does a reduced check of everything in a few minutes, to test the script itself.
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
    """Run the parts in turn, and write what they print.

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
    """Run a part in a process that prints to the report; end it and its children when the time is over.

    Returns:
        The reason of a failure; None if there was none.
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
