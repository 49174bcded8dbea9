"""Tables, figures and claims of what has been run."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from hf_sharp_prompt.study import claims, report
from hf_sharp_prompt.study.plan import SUITES, read_plan


PLAN = read_plan()
TASKS = SUITES["familiar"][:5]
GAINS = {"coop": 0.0, "coop_sam": 0.02, "gcscoop": 0.03, "subpt": -0.02}
EXPLANATION = {"gradient_norm": 0.1, "top_eigenvalue_error": 0.1, "trace_error": 0.1, "size": 4, "samples": 2}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """What the study's runs leave, in which SAM and GCSCoOp are better than CoOp by design, and flatter."""
    root, random = tmp_path_factory.mktemp("study"), np.random.default_rng(0)
    for place, task in enumerate(TASKS):
        directory = root / "methods" / task
        results = {
            "zero-shot": [{"base": 0.6, "novel": 0.64, "hm": 0.62, "history": {"base": [0.6], "novel": [0.64]}}]
        }
        for method, gain in GAINS.items():
            results[method] = []
            for seed in (1, 2):
                accuracy = 0.6 + gain + 0.01 * place + random.normal(0, 0.002)
                adapter = directory / method / f"seed{seed}"
                adapter.mkdir(parents=True)
                history = {half: list(np.linspace(accuracy + 0.05, accuracy, 20)) for half in ("base", "novel")}
                measured = {"base": accuracy, "novel": accuracy, "hm": accuracy, "history": history}
                run = {**measured, "seed": seed, "seconds": 1.0, "cosines": [0.9, 0.8], "adapter": str(adapter)}
                results[method].append(run)
                sharpness = {"loss": 1 + gain, "top_eigenvalue": 5 - 50 * gain + random.random(), "trace": 9.0 - gain}
                within = {
                    rho: {"worst": 2.0 + random.random(), "mean": 1.5, "mean_error": 0.1} for rho in ("0.1", "0.5")
                }
                explanation = {
                    **EXPLANATION,
                    **sharpness,
                    "within": within,
                    "distance": 0.2 + random.random(),
                    "files": {},
                }
                (adapter / "explanation.json").write_text(json.dumps(explanation))
        (directory / "summary.json").write_text(json.dumps(results))
        straight, wild = np.arange(15.0), np.arange(15, 40)  # epochs
        path = np.zeros((40, 30))
        path[:15, 0] = straight
        path[wild, wild % 30] = wild
        recorded = root / "trajectories" / task / "coop" / "seed1" / "path.npy"
        recorded.parent.mkdir(parents=True)
        np.save(recorded, path)
    return root


@pytest.fixture(scope="module")
def written(study):
    return report.write_report(PLAN, study).read_text()


def row_of(table_title, name, text):
    section = text.partition(table_title)[2].partition("###")[0]
    return re.search(rf"^\| {re.escape(name)} \|.*$", section, re.MULTILINE).group()


def test_a_difference_that_excludes_zero_is_bold(written):
    row = row_of("`familiar`: mean of 5 tasks", "gcscoop", written)
    assert re.search(r"\*\*\+3\.\d \[\+2\.\d, \+3\.\d\]\*\*", row), row
    assert "5 of 5" in row
    assert row_of("`familiar`: mean of 5 tasks", "zero-shot CLIP", written).startswith(
        "| zero-shot CLIP |  | 60.0 | 64.0 |"
    )


def test_each_task_has_a_column(written):
    row = row_of("HM by task", "coop", written)
    assert len(row.strip("| ").split("|")) == 1 + len(TASKS)


def test_claims_are_confirmed_denied_or_left_open(written):
    found = {
        words: re.search(rf"^\|[^|]*\| {re.escape(words)} \|.*\| ([^|]+) \|$", written, re.MULTILINE).group(1)
        for words in (
            "GCSCoOp is better than CoOp.",
            "SubPT ends with higher novel accuracy than CoOp.",
            "SAMPLe is better than SAM.",
            "The early path lies in fewer directions than the late one.",
            "… and then falls, although training goes on.",
            "The sharper the minimum, the lower the accuracy on novel classes.",
        )
    }
    assert list(found.values()) == [
        *("confirmed", "the contrary was found", "not run", "confirmed", "confirmed", "confirmed"),
    ]
    assert written.count("not testable here") == len(claims.NOT_TESTABLE)


def test_correlations_are_told_with_intervals(written):
    assert "**-" in row_of("What goes with accuracy", "top eigenvalue", written)


def test_figures_are_drawn(study, written):
    for name in ("accuracy_by_epoch", "angles", "eigenvalues", "novel_explained", "base_explained", "hm_explained"):
        assert Image.open(study / f"{name}.png").width > 300


def test_a_study_that_has_run_nothing_has_an_empty_report(tmp_path):
    text = report.write_report(PLAN, tmp_path).read_text()
    assert "not run" in text
    assert not list(tmp_path.glob("*.png"))


def test_a_claim_says_what_is_positive_if_it_holds():
    assert claims.verdict(claims.Interval(1, 0.5, 2)) == "confirmed"
    assert claims.verdict(claims.Interval(-1, -2, -0.5)) == "the contrary was found"
    assert claims.verdict(claims.Interval(1, -0.5, 2)) == "not confirmed"
    opposite = claims.negative(lambda evidence: claims.Interval(1, 0.5, 2))
    assert opposite(claims.Evidence({})) == claims.Interval(-1, -2, -0.5)
