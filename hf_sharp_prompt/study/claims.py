"""What the papers claim, and what the study found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..experiments.results import Result, Results, succeeded
from .plan import REFERENCE
from .results import Runs, runs_of, values_of
from .statistics import Interval, bootstrap_over_tasks_and_seeds, compare
from .tables import signed, table


SUBPT, GCSCOOP, SAMPLE = "SubPT (2023)", "GCSCoOp (2024)", "SAMPLe"
KGCOOP, RSAM_PT = "KgCoOp (2023)", "RSAM-PT (2024)"
BASE_PEAK, NOVEL_PEAK = 15, 3
"""The epochs of CoOp's peaks on the validation splits are 15 and 4; accuracy is measured after every third."""


@dataclass(frozen=True)
class Evidence:
    """What the study has measured.

    Args:
        results: The results on the suite `familiar`, by task.
        explanations: By method, the runs with what may explain their accuracy, by task and seed.
        correlations: By quantity and accuracy, the mean rank correlation within tasks.
        early_share, late_share: By task, the share of the path's variance along five directions.
        long_tail: By imbalance, the results.
        epochs_between: The epochs between two measurements on the way.
    """

    results: Mapping[str, Results]
    explanations: Mapping[str, Runs] = field(default_factory=dict)
    correlations: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    early_share: Mapping[str, float] = field(default_factory=dict)
    late_share: Mapping[str, float] = field(default_factory=dict)
    long_tail: Mapping[int, Results] = field(default_factory=dict)
    epochs_between: int = 3


Test = Callable[[Evidence], Interval]


@dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Args:
        source: The paper.
        words: The claim.
        quantity: What is measured; the claim says that it is positive.
        measure: Measures it.
    """

    source: str
    words: str
    quantity: str
    measure: Test


def difference(method: str, other: str, key: str) -> Test:
    """The accuracy of a method less another's."""

    def measure(evidence: Evidence) -> Interval:
        runs = [values_of(runs_of(evidence.results, name), key) for name in (method, other)]
        return compare(runs[0], runs[1]).difference

    return measure


def over_training(half: str, later: int | None, earlier: int | None) -> Test:
    """CoOp's accuracy at an epoch less that at another one.

    Args:
        half: The classes, `base` or `novel`.
        later: The later epoch; None is the last.
        earlier: The earlier epoch; None is zero-shot CLIP.
    """

    def measure(evidence: Evidence) -> Interval:
        differences = []
        for results in evidence.results.values():
            zero_shot = results["zero-shot"][0][half]
            runs = [run for run in succeeded(results[REFERENCE]) if len(run["history"][half]) > 1]
            differences.append(
                [
                    at_epoch(run, half, later, evidence.epochs_between)
                    - (zero_shot if earlier is None else at_epoch(run, half, earlier, evidence.epochs_between))
                    for run in runs
                ]
            )
        return bootstrap_over_tasks_and_seeds(require(differences))

    return measure


def at_epoch(run: Result, half: str, epoch: int | None, epochs_between: int) -> float:
    """A run's accuracy after an epoch; None is the last."""
    history = run["history"][half]
    return history[-1 if epoch is None else epoch // epochs_between - 1]


def require(values: Sequence[Sequence[float]]) -> Sequence[Sequence[float]]:
    """Return the values.

    Raises:
        ValueError: Some are missing.
    """
    if not values or not all(values):
        raise ValueError("It was not measured.")
    return values


def negative(test: Test) -> Test:
    """What a test measures, with the other sign."""

    def measure(evidence: Evidence) -> Interval:
        found = test(evidence)
        return Interval(-found.mean, -found.high, -found.low)

    return measure


def explanation_difference(method: str, other: str, key: str) -> Test:
    """A quantity of a method's prompts less that of another's, relative to the other's."""

    def measure(evidence: Evidence) -> Interval:
        runs, others = (values_of(evidence.explanations.get(name, {}), key) for name in (method, other))
        relative = [
            [value / others[task][seed] - 1 for seed, value in seeds.items() if seed in others[task]]
            for task, seeds in runs.items()
        ]
        return bootstrap_over_tasks_and_seeds(require(relative))

    return measure


def correlation(quantity: str, accuracy: str) -> Test:
    """The mean rank correlation within tasks of a quantity with an accuracy."""

    def measure(evidence: Evidence) -> Interval:
        if quantity not in evidence.correlations:
            raise ValueError("It was not measured.")
        return evidence.correlations[quantity][accuracy]

    return measure


def early_less_late(evidence: Evidence) -> Interval:
    """The share of the early path's variance in five directions less the late one's."""
    shares = [[share - evidence.late_share[task]] for task, share in evidence.early_share.items()]
    return bootstrap_over_tasks_and_seeds(require(shares))


def long_tail_difference(method: str, other: str, key: str) -> Test:
    """The accuracy of a method on long tails less another's, over imbalances and seeds."""

    def measure(evidence: Evidence) -> Interval:
        runs = [
            {
                str(imbalance): {run["seed"]: run[key] for run in succeeded(results.get(name, []))}
                for imbalance, results in evidence.long_tail.items()
            }
            for name in (method, other)
        ]
        return compare(runs[0], runs[1]).difference

    return measure


CLAIMS = (
    Claim(
        SUBPT,
        "CoOp's base accuracy rises at first …",
        "base, epoch 15 − zero-shot",
        over_training("base", BASE_PEAK, None),
    ),
    Claim(
        SUBPT,
        "… and then falls, although training goes on.",
        "base, epoch 15 − epoch 60",
        negative(over_training("base", None, BASE_PEAK)),
    ),
    Claim(
        SUBPT,
        "CoOp's novel accuracy falls during training …",
        "novel, epoch 3 − epoch 60",
        negative(over_training("novel", None, NOVEL_PEAK)),
    ),
    Claim(
        SUBPT, "… below zero-shot CLIP's.", "novel, zero-shot − epoch 60", negative(over_training("novel", None, None))
    ),
    Claim(
        SUBPT,
        "The early path lies in fewer directions than the late one.",
        "share of five directions, early − late",
        early_less_late,
    ),
    Claim(
        SUBPT,
        "SubPT ends with higher base accuracy than CoOp.",
        "base, SubPT − CoOp",
        difference("subpt", "coop", "base"),
    ),
    Claim(
        SUBPT,
        "SubPT ends with higher novel accuracy than CoOp.",
        "novel, SubPT − CoOp",
        difference("subpt", "coop", "novel"),
    ),
    Claim(
        SUBPT,
        "NFL adds novel accuracy to SubPT.",
        "novel, SubPT + NFL − SubPT",
        difference("subpt_nfl", "subpt", "novel"),
    ),
    Claim(
        SUBPT,
        "SubPT + NFL is better than CoOp on both halves.",
        "HM, SubPT + NFL − CoOp",
        difference("subpt_nfl", "coop", "hm"),
    ),
    Claim(GCSCOOP, "SAM is better than CoOp.", "HM, SAM − CoOp", difference("coop_sam", "coop", "hm")),
    Claim(GCSCOOP, "GCSCoOp is better than CoOp.", "HM, GCSCoOp − CoOp", difference("gcscoop", "coop", "hm")),
    Claim(GCSCOOP, "GCSCoOp is better than SAM.", "HM, GCSCoOp − SAM", difference("gcscoop", "coop_sam", "hm")),
    Claim(
        GCSCOOP,
        "SAM alone gives up base accuracy, which GCSCoOp keeps.",
        "base, GCSCoOp − SAM",
        difference("gcscoop", "coop_sam", "base"),
    ),
    Claim(
        GCSCOOP,
        "GCSCoOp's minima are flatter than CoOp's.",
        "top eigenvalue, 1 − GCSCoOp / CoOp",
        negative(explanation_difference("gcscoop", "coop", "top_eigenvalue")),
    ),
    Claim(
        GCSCOOP,
        "GCSCoOp's loss is lower than SAM's.",
        "training loss, 1 − GCSCoOp / SAM",
        negative(explanation_difference("gcscoop", "coop_sam", "loss")),
    ),
    Claim(
        GCSCOOP,
        "The sharper the minimum, the lower the accuracy on novel classes.",
        "−rank correlation, top eigenvalue with novel",
        negative(correlation("top_eigenvalue", "novel")),
    ),
    Claim(
        GCSCOOP,
        "The lower the loss, the higher the accuracy on base classes.",
        "−rank correlation, loss with base",
        negative(correlation("loss", "base")),
    ),
    Claim(SAMPLE, "SAMPLe is better than SAM.", "HM, SAMPLe − SAM", difference("coop_sample", "coop_sam", "hm")),
    Claim(SAMPLE, "SAMPLe adds to MaPLe.", "HM, MaPLe + SAMPLe − MaPLe", difference("maple_sample", "maple", "hm")),
    Claim(
        KGCOOP,
        "KgCoOp is better than CoOp on novel classes.",
        "novel, KgCoOp − CoOp",
        difference("kgcoop", "coop", "novel"),
    ),
    Claim(
        KGCOOP,
        "The nearer the texts are to zero-shot CLIP's, the higher the accuracy on novel classes.",
        "−rank correlation, distance with novel",
        negative(correlation("distance", "novel")),
    ),
    Claim(
        RSAM_PT,
        "RSAM-PT is better than VPT-deep.",
        "overall, RSAM-PT − VPT",
        long_tail_difference("rsam_pt", "vpt", "overall"),
    ),
    Claim(
        RSAM_PT,
        "RSAM-PT is better than SAM.",
        "overall, RSAM-PT − SAM",
        long_tail_difference("rsam_pt", "vpt_sam", "overall"),
    ),
    Claim(
        RSAM_PT,
        "RSAM-PT is better than ImbSAM.",
        "overall, RSAM-PT − ImbSAM",
        long_tail_difference("rsam_pt", "vpt_imbsam", "overall"),
    ),
    Claim(
        RSAM_PT,
        "RSAM-PT is better than Focal-SAM.",
        "overall, RSAM-PT − Focal-SAM",
        long_tail_difference("rsam_pt", "vpt_focalsam", "overall"),
    ),
    Claim(
        RSAM_PT, "It gains most on rare classes.", "few, RSAM-PT − VPT", long_tail_difference("rsam_pt", "vpt", "few")
    ),
    Claim(
        RSAM_PT,
        "The random neighbourhood helps.",
        "overall, with − without GNM",
        long_tail_difference("rsam_pt", "rsam_pt_without_gnm", "overall"),
    ),
    Claim(
        RSAM_PT,
        "Deferred re-weighting helps.",
        "overall, with − without DRW",
        long_tail_difference("rsam_pt", "rsam_pt_without_drw", "overall"),
    ),
    Claim(
        RSAM_PT,
        "Gaussian clouded logits help.",
        "overall, with − without GCL",
        long_tail_difference("rsam_pt", "rsam_pt_without_gcl", "overall"),
    ),
)
"""The claims that the study tests, each as a quantity that is positive if it holds."""

NOT_TESTABLE = (
    (
        SUBPT,
        "SubPT + NFL helps open-vocabulary detection and zero-shot segmentation.",
        "the demo's scenes are in styles that its models have not seen (docs/detection_segmentation.md)",
    ),
    (
        GCSCOOP,
        "The gains hold over 11 data sets and transfer from ImageNet to other data sets.",
        "there are no real images here",
    ),
    (
        RSAM_PT,
        "Prompts of an ImageNet-21k backbone come close to full fine-tuning on CIFAR100-LT and Places-LT.",
        "there is no such backbone here, and its data are not",
    ),
)
"""Claims that need other data: source, words, and why."""


def claims_table(evidence: Evidence) -> str:
    """Every claim with what was found."""
    rows = []
    for claim in CLAIMS:
        try:
            found = claim.measure(evidence)
        except (ValueError, KeyError):
            rows.append([claim.source, claim.words, claim.quantity, "", "not run"])
            continue
        scale, places = (1, 2) if "correlation" in claim.quantity else (100, 1)
        rows.append([claim.source, claim.words, claim.quantity, signed(found, scale, places), verdict(found)])
    rows += [[source, words, "", why, "not testable here"] for source, words, why in NOT_TESTABLE]
    title = "Claims, on the suite `familiar` and on long tails; points, or a correlation, with 95 % intervals"
    return table(title, ["paper", "claim", "quantity", "found", ""], rows)


def verdict(found: Interval) -> str:
    """Whether a quantity that a claim says is positive is so."""
    if found.is_above:
        return "confirmed"
    return "the contrary was found" if found.is_below else "not confirmed"
