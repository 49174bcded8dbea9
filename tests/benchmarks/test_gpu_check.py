"""The check for a GPU works as far as a CPU can show it: its report, its exit code and its limit of time."""

import re
from pathlib import Path

from support.scripts import run_script


SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_check.py"


def check(report: Path, *arguments: str) -> tuple[int, str]:
    """The exit code, and the report."""
    code = run_script(SCRIPT, "--device", "cpu", "--report", report, *arguments)
    return code, report.read_text()


def test_it_reports_what_differs_between_devices(tmp_path: Path):
    """Otherwise the only time on a GPU is spent on finding that the script fails."""
    code, report = check(tmp_path / "report.md", "--parts", "tuners")
    rows = re.findall(r"^\| (\w+) \| (\S+) \| (\S+) \| (\S+) \|$", report, re.MULTILINE)
    assert rows == [(position, "0e+00", "0e+00", "0e+00") for position in ("end", "middle", "front")]
    assert "## tuners\n\nA prompted CLIP on the device" in report
    assert report.endswith("everything passed.**\n")
    assert code == 0


def test_it_ends_when_its_time_is_over(tmp_path: Path):
    """Otherwise a part that hangs keeps the GPU, and the report of the others is never written."""
    code, report = check(tmp_path / "report.md", "--parts", "jobs", "steps", "--seconds", "1")
    assert re.findall(r"FAILED\*\*: (.*)", report) == [
        "It was stopped after 1 s, when the time was over.",
        "The time was over before it began.",
    ]
    assert report.endswith("FAILED: jobs, steps.**\n")
    assert code == 1
