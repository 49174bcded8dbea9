"""Runs that continue where they stopped, are checked when they end, and cost no other's results when they fail."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
import shutil
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from accelerate import PartialState
from rich.console import Console
from transformers import PreTrainedModel

from .. import progress
from ..together.session import Session, seconds
from ..together.training import OwnTime
from ..training.arguments import SharpPromptTrainingArguments
from ..training.checkpoint import was_interrupted
from ..training.trainer import SharpPromptTrainer
from .failures import FAILED, in_one_sentence, is_users_error
from .publishing import Publication, push_missing
from .reporting import ProgressOfMany
from .results import (
    IDENTITY_NAME,
    RESULT_NAME,
    Result,
    Results,
    checksums,
    count_failures,
    find_result,
    in_words,
    read_json,
    without_nan,
    write_json,
)
from .side_by_side import KilledError, side_by_side
from .threads import choose_runs_at_once, threads_that_pay


logger = logging.getLogger(__name__)

ERROR_NAME = "_error.txt"
TOLERANCE = 0.01
"""How much an accuracy may differ when it is measured twice on an accelerator: its kernels may add in another order
each time, so that images between two classes change sides. On a CPU it may not differ."""
PATIENCE = timedelta(minutes=5)
"""How long a process waits for the others to end the same run."""


T = TypeVar("T", bound=SharpPromptTrainer)


@dataclass
class Run(Generic[T]):
    """One method with one seed.

    Args:
        method: The method's name.
        seed: The seed of everything random.
        label: What the run is called in messages.
        directory: Where checkpoints, adapter and result go.
        identity: What makes it this run, so that it may be continued.
        make_trainer: Makes the Trainer to train.
        load_trainer: Makes a Trainer of the saved adapter on a fresh base model.
        measure: Measures what a Trainer's model reaches.
        measured: The keys of measured values that the reloaded adapter has to reach.
        prepare: Loads and encodes what it has in common with other runs, so that it is done once.
        work: The multiply-adds of the widest matrix product in a step, by which threads are chosen.
        publication: How the adapter is pushed to the Hub; None if it is not.
        alone: Why it cannot be trained at once with other runs of its experiment; None if it can.
    """

    method: str
    seed: int
    label: str
    directory: Path
    identity: dict[str, Any]
    make_trainer: Callable[[], T]
    load_trainer: Callable[[], T]
    measure: Callable[[T], Result]
    measured: Sequence[str]
    prepare: Callable[[], None]
    work: int
    publication: Publication | None = None
    alone: str | None = None


def identify(
    experiment: dict[str, Any], prompt: dict[str, Any], training: SharpPromptTrainingArguments
) -> dict[str, Any]:
    """What makes a run this run, as JSON gives it back.

    Args:
        experiment: What all runs of the experiment have in common: model, data and protocol.
        prompt: The prompt's arguments.
        training: The run's training arguments.
    """
    # The arguments bf16 and fp16 do not say what accelerate launch asked for.
    precision = {"mixed_precision": training.mixed_precision}
    return json.loads(json.dumps({**experiment, **prompt, **training.identity(), **precision}))


def fingerprint_of_model(model: PreTrainedModel) -> str:
    """Hash a model's configuration and tensors, so that another model under the same path or name is another."""
    digest = hashlib.blake2b(digest_size=16)
    config = {name: value for name, value in model.config.to_dict().items() if not name.startswith(("_", "transf"))}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def check_directories(runs: Sequence[Run[Any]]) -> None:
    """Make sure, before anything is trained, that the runs may be written where they are to be.

    A directory belongs to the run that left a result or a complete checkpoint in it. The runs of a method differ in
    their seeds alone.

    Raises:
        ValueError: A directory holds another run, or cannot be written.
    """
    for run in runs:
        make_directory(run.directory)
        for sibling in sorted(run.directory.parent.glob("seed*")):
            if has_result(sibling) or find_checkpoints(sibling):
                check_identity(sibling, run.identity)
    PartialState().wait_for_everyone()


def make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        writable = os.access(directory, os.W_OK)
    except OSError as error:
        raise ValueError(
            f"The directory {directory} cannot be made ({error.strerror}); choose another --output_dir."
        ) from error
    if not writable:
        raise ValueError(f"The directory {directory} is not writable; choose another --output_dir.")


def check_identity(directory: Path, identity: dict[str, Any]) -> None:
    held = read_json(directory / IDENTITY_NAME)
    if held is None:
        raise ValueError(
            f"{directory} holds a run, but no {IDENTITY_NAME} that says which. Choose another --output_dir."
        )
    changed = [name for name in {**identity, **held} if name != "seed" and held.get(name) != identity.get(name)]
    if changed:
        differences = ", ".join(f"{name} was {held.get(name)} and is now {identity.get(name)}" for name in changed[:5])
        more = f" and {len(changed) - 5} more differences" if len(changed) > 5 else ""
        raise ValueError(
            f"{directory} holds another run: {differences}{more}. Choose another --output_dir or delete it."
        )


def has_result(directory: Path) -> bool:
    return (directory / RESULT_NAME).is_file()


def find_checkpoints(directory: Path) -> list[Path]:
    """The complete checkpoints of a run, those of SubPT's early stage included."""
    return [
        path
        for pattern in ("checkpoint-*", "_early/checkpoint-*")
        for path in directory.glob(pattern)
        if not was_interrupted(path)
    ]


def run_all(
    runs: Sequence[Run[Any]],
    console: Console,
    columns: Mapping[str, str],
    together: Sequence[Run[Any]] = (),
    at_once: int | None = None,
) -> Results:
    """Do the runs, whether or not one fails, and push their adapters if that is asked for.

    Args:
        runs: The runs.
        console: Where a line is printed for each run that has ended.
        columns: Heading in tables → key of a result.
        together: Those of the runs that are trained at once, before the others.
        at_once: How many of the others are done at a time; by default as many as pay
            ([`~threads.choose_runs_at_once`]).

    Returns:
        By method, the results in the order of the runs.
    """
    for run in runs:
        # What fails here fails again in the run, which reports it.
        if not has_result(run.directory):
            with suppress(Exception):
                run.prepare()
    others = [run for run in runs if run not in together]
    at_once = choose_runs_at_once([run.work for run in others], at_once)
    done: dict[str, Result] = {}
    with closing(attempt_together(together)) as first, closing(attempt_all(others, at_once)) as then:
        for run, result in chain(first, then):
            done[run.label] = result
            console.print(f"{run.label}: {in_words(result, columns)}", soft_wrap=True)
            if run.publication is not None and "failed" not in result and PartialState().is_main_process:
                run.publication.push()
    results: Results = {}
    for run in runs:
        results.setdefault(run.method, []).append(done[run.label])
    return results


def attempt_all(runs: Sequence[Run[Any]], at_once: int) -> Generator[tuple[Run[Any], Result]]:
    """Do the runs in this process or in others, and yield each with its result as it ends."""
    if at_once == 1:
        for run in runs:
            with threads_that_pay(run.work):
                result = attempt(run)
            yield run, result
        return
    by_label = {run.label: run for run in runs}
    for label, ended in side_by_side({run.label: partial(attempt, run) for run in runs}, at_once):
        run = by_label[label]
        yield run, fail(run, ended) if isinstance(ended, KilledError) else ended


def attempt_together(runs: Sequence[Run[Any]]) -> Generator[tuple[Run[Any], Result]]:
    """Do runs at once, as `attempt` does each; yield each that has ended."""
    by_label = {run.label: run for run in runs}
    with progress.shown_through(ProgressOfMany):
        session = Session({label: partial(attempt, run) for label, run in by_label.items()})
        with closing(session.run()) as ended:
            for label, result in ended:
                if isinstance(result, Exception):
                    raise result
                yield by_label[label], result


def choose_together(runs: Sequence[Run[T]], asked: str) -> list[Run[T]]:
    """Choose the runs that are trained at once.

    Args:
        runs: The runs of an experiment.
        asked: `"yes"` for all that can be, with a line of the log for those that cannot; `"auto"` for these on an
            accelerator, where most of a run's time would pass in waiting for small kernels; `"no"` for none.
    """
    if asked == "no" or (asked == "auto" and PartialState().device.type == "cpu"):
        return []
    unfinished = [run for run in runs if not has_result(run.directory)]
    reasons = {run.label: run.alone for run in unfinished}
    if PartialState().num_processes > 1:
        reasons = dict.fromkeys(reasons, "there are several processes")
    chosen = [run for run in unfinished if reasons[run.label] is None]
    if asked == "yes":
        for label, reason in reasons.items():
            if reason is not None:
                logger.warning(f"{label} is trained alone: {reason}.")
    return chosen if len(chosen) > 1 else []


def end_of(results: Sequence[Results], publications: Sequence[Publication], console: Console) -> int:
    """Say how the runs ended, push what could not be pushed before, and give the script's exit code."""
    failures = sum(map(count_failures, results))
    if failures:
        console.print(
            f"Failed runs: {failures}; {ERROR_NAME} of each says why. The same command runs them again.",
            soft_wrap=True,
        )
    else:
        console.print(
            "Every adapter was loaded back when its run ended and reached what was measured; none has changed since.",
            soft_wrap=True,
        )
    missing = push_missing(publications) if PartialState().is_main_process else []
    for each in missing:
        console.print(f"NOT PUSHED: {each}. The same command tries it again.", soft_wrap=True)
    return FAILED if failures or missing else 0


def attempt(run: Run[Any]) -> Result:
    """Do a run; if it fails, say so in its result, and keep the traceback in its directory."""
    failure, result = None, {}
    try:
        result = do(run)
    except Exception as error:
        failure = fail(run, error)["failed"]
    if (failure := agree(failure)) is None:
        (run.directory / ERROR_NAME).unlink(missing_ok=True)
        return result
    gc.collect()  # the failed run's Trainer
    return {"seed": run.seed, "failed": failure}


def fail(run: Run[Any], error: Exception) -> Result:
    """Write down why a run failed; the result says it in a sentence."""
    report = "".join(traceback.format_exception(error))
    if not is_users_error(error):
        logger.error(report)
    if PartialState().is_main_process:
        (run.directory / ERROR_NAME).write_text(report, encoding="utf-8")
    return {"seed": run.seed, "failed": in_one_sentence(error)}


def agree(failure: str | None) -> str | None:
    """What failed in any of the processes.

    The others may still wait, in the middle of the run, for the process in which it failed. Then they cannot go on
    together, and the timeout's error ends the job.
    """
    state = PartialState()
    if state.num_processes == 1:
        return failure
    group = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
    failures: list[str | None] = [None] * state.num_processes
    torch.distributed.all_gather_object(failures, failure, group=group)
    torch.distributed.destroy_process_group(group)
    return next((each for each in failures if each is not None), None)


def do(run: Run[Any]) -> Result:
    """Train, measure, save and load back; what an earlier call began is continued, or just returned.

    Raises:
        RuntimeError: The saved adapter does not reach what was measured.
        ValueError: The adapter of a finished run is not the one that was measured.
    """
    if (result := find_result(run.directory)) is not None:
        logger.warning(f"{run.directory} is finished and not run again.")
        return result if all(name in result for name in run.measured) else complete(run, result)
    PartialState().wait_for_everyone()
    if PartialState().is_main_process:
        (run.directory / RESULT_NAME).unlink(missing_ok=True)
        write_json(run.directory / IDENTITY_NAME, run.identity)
    trainer = run.make_trainer()
    trainer.add_callback(OwnTime())
    started = seconds()
    trainer.train(resume_from_checkpoint=bool(find_checkpoints(run.directory)))
    taken = seconds() - started
    result = without_nan(run.measure(trainer))
    trainer.save_model()
    trainer.accelerator.wait_for_everyone()
    check_same(result, without_nan(run.measure(run.load_trainer())), run)
    result |= {
        "seed": run.seed,
        "seconds": taken,
        "adapter": str(run.directory),
        "files": checksums(run.directory),
    }
    if trainer.is_world_process_zero():
        write_json(run.directory / RESULT_NAME, result)
        for checkpoint in run.directory.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
    trainer.accelerator.wait_for_everyone()
    return result


def complete(run: Run[Any], result: Result) -> Result:
    """Measure a finished run's adapter once more, where an older version measured less; what is known stays.

    Raises:
        RuntimeError: The adapter does not reach what was measured.
    """
    measured = without_nan(run.measure(run.load_trainer()))
    completed = {**measured, **result}
    check_same(completed, measured, run)
    if PartialState().is_main_process:
        write_json(run.directory / RESULT_NAME, completed)
    PartialState().wait_for_everyone()
    return completed


def check_same(measured: Result, reloaded: Result, run: Run[Any]) -> None:
    """Compare what the trained and the reloaded model reach.

    Raises:
        RuntimeError: They differ by more than the device explains.
    """
    differences = [
        f"{name} {measured[name]} and {reloaded[name]}" for name in run.measured if measured[name] != reloaded[name]
    ]
    if not differences:
        return
    undefined = any(
        None in (measured[name], reloaded[name]) and measured[name] != reloaded[name] for name in run.measured
    )
    tolerance = 0.0 if PartialState().device.type == "cpu" else TOLERANCE
    if undefined or any(
        abs(measured[name] - reloaded[name]) > tolerance for name in run.measured if measured[name] is not None
    ):
        raise RuntimeError(
            f"The adapter in {run.directory} does not reach what was measured when it is loaded back: "
            f"{', '.join(differences)}."
        )
    logger.warning(
        f"The adapter in {run.directory} reaches, loaded back, what was measured up to the order in which the "
        f"{PartialState().device.type}'s kernels add: {', '.join(differences)}."
    )
