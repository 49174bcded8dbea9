"""An experiment: one data set under a protocol, the runs on it, and where their results go.

A protocol is a file with a subclass of [`Experiment`] and its arguments; `protocol.py` runs it.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from accelerate import PartialState
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel, set_seed

from .. import progress
from ..data import SkippedImage
from ..extras import check_installed
from ..together.weights import copy_with_same_weights
from ..training.arguments import SharpPromptTrainingArguments
from ..training.trainer import SharpPromptTrainer
from .arguments import ExperimentArguments, name_of_data
from .methods import Method
from .publishing import Publication, name_folder, name_repository
from .record import Record
from .results import Result, Results, collect, without_nan, write_json
from .runs import Run, choose_together, fingerprint_of_model, identify, run_all
from .tables import COSTS, make_table
from .threads import threads_that_pay


P = TypeVar("P")
T = TypeVar("T", bound=SharpPromptTrainer)


class Experiment(ABC, Generic[P, T]):
    """One data set under a protocol.

    Args:
        dataset: The data set, as the command line names it.
        args: The experiment's arguments.
        training: Training arguments: the output directory, and how many workers decode images.

    Attributes:
        protocol: The protocol's command.
        columns: Heading in tables → key of a result, in [0, 1].
        costs: Heading in tables → key of a result, and its decimal places.
        figure: The name of the file that `draw` writes.
        extras: The optional packages that it needs, by the extra that installs them.
        name: What the data set is called.
        directory: Where results go; `METHOD/seedN` in it are the directories of runs.
        skipped: The images that were left out because they cannot be read.
    """

    protocol: ClassVar[str]
    columns: Mapping[str, str]
    costs: ClassVar[Mapping[str, tuple[str, int]]] = COSTS
    figure: ClassVar[str]
    extras: ClassVar[Mapping[str, Sequence[str]]] = {"plots": ["matplotlib"]}

    def __init__(self, dataset: str, args: ExperimentArguments, training: SharpPromptTrainingArguments) -> None:
        check_installed(f"sharp-prompt {self.protocol}", self.extras)
        self.dataset, self.seeds, self.experiment_args = dataset, args.seeds, args
        self.name = name_of_data(dataset)
        self.output_dir = Path(training.output_dir or "")
        self.directory = self.output_dir / self.name
        self.skipped: list[SkippedImage] = []

    @property
    @abstractmethod
    def model(self) -> PreTrainedModel:
        """The base model as it was loaded, once, on the process's device. It is never trained or prompted."""

    def load_model(self) -> PreTrainedModel:
        """Make a fresh base model: a copy of the one that was loaded."""
        return copy_with_same_weights(self.model)

    @abstractmethod
    def code_of_model(self) -> list[str]:
        """Lines of Python that load the base model as `base`, for whoever loads an adapter."""

    @abstractmethod
    def data_fingerprint(self) -> str:
        """The fingerprint of the images that are trained and measured on."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What else all runs have in common, by argument."""

    @abstractmethod
    def prepare(self, method: Method[P], seed: int) -> None:
        """Load and encode what a run has in common with others, so that it is done once for all."""

    @abstractmethod
    def work_of(self, method: Method[P]) -> int:
        """The multiply-adds of the widest product in a step, tokens × width², by which threads are chosen."""

    @abstractmethod
    def make_trainer(self, method: Method[P], training: SharpPromptTrainingArguments) -> T:
        """Make the Trainer of a new prompt."""

    @abstractmethod
    def load_trainer(self, method: Method[P], training: SharpPromptTrainingArguments) -> T:
        """Make a Trainer of what a run saved, on a fresh base model; it measures as the run's own does."""

    @abstractmethod
    def measure(self, trainer: T) -> Result:
        """Measure what a Trainer's model reaches."""

    @abstractmethod
    def draw(self, results: Results) -> None:
        """Draw the figure into the experiment's directory."""

    def setting(self) -> dict[str, Any]:
        """What a reader of the results needs to know of the settings."""
        split = self.experiment_args.eval_split
        return {} if split == "test" else {"split": split}

    @property
    def label(self) -> str:
        """What the experiment is called in tables and messages."""
        return self.name

    def describe(self) -> str:
        """What is said of the data before the runs; empty if nothing is."""
        return ""

    def conclude(self, results: Results) -> str:
        """What is said after the runs: where their results are."""
        return f"Adapters are in {self.directory}/METHOD/seedN, summary.json and figures beside them."

    def decodes_images(self, method: Method[P]) -> bool:
        """Whether a method trains on images that are decoded in every step, for which it needs workers."""
        return True

    @property
    def together(self) -> str:
        """Whether runs are trained at once: auto, yes or no."""
        return "no"

    def why_alone(self, method: Method[P], training: SharpPromptTrainingArguments) -> str | None:
        """Return why a method's runs cannot be trained at once with others; None if they can."""
        return "this protocol trains one run after the other"

    def measure_baselines(self, training: SharpPromptTrainingArguments) -> Results:
        """Measure what the methods are compared with, without training."""
        return {}

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What all runs have in common: other data or another model under the same name make another experiment."""
        progress.report("reading")
        set_seed(0)  # A head that the checkpoint lacks is drawn at random.
        return {
            "model_fingerprint": fingerprint_of_model(self.model),
            "data_fingerprint": self.data_fingerprint(),
            **self.settings(),
        }

    def record(self) -> Record:
        """What the experiment's directory says about itself."""
        return Record(
            self.protocol,
            self.name,
            self.setting(),
            dict(self.columns),
            self.identity,
            self.code_of_model(),
            self.experiment_args.smoke,
        )

    def run(
        self, methods: Sequence[Method[P]], console: Console, command: str = ""
    ) -> tuple[Results, list[Publication]]:
        """Do the runs and write their summary.

        Args:
            methods: The methods.
            console: Where a line is printed for each run.
            command: The command line, for the record.

        Returns:
            The runs' results by method: baselines first, then the methods, then what earlier commands left of others;
            and the runs' publications.
        """
        runs, record = self.list_runs(methods), self.record()
        record.commands = [command] if command else []
        with threads_that_pay(self.work_of(methods[0])):
            record.baselines = without_nan(self.measure_baselines(methods[0].training))
        if PartialState().is_main_process:
            record.write(self.directory)
        together = choose_together(runs, self.together)
        done = run_all(runs, console, self.columns, together, self.experiment_args.runs_at_once)
        results = {**record.baselines, **collect(self.directory, self.identity, done)}
        if PartialState().is_main_process:
            write_json(self.directory / "summary.json", results)
        return results, [run.publication for run in runs if run.publication is not None]

    def list_runs(self, methods: Sequence[Method[P]]) -> list[Run[T]]:
        """One run for each method and seed."""
        return [self.make_run(method, seed) for method in methods for seed in self.seeds]

    @property
    def repository_parts(self) -> tuple[str, ...]:
        """The parts of a repository's name that say what was learned; the method and the seed follow."""
        return self.directory.relative_to(self.output_dir).parts

    def make_run(self, method: Method[P], seed: int) -> Run[T]:
        """One method with one seed."""
        directory, asked = self.directory_of(method, seed), method.training
        training = self.training_of(method, seed)
        publication = None
        if asked.push_to_hub:
            parts = (*self.repository_parts, method.name, f"seed{seed}")
            if asked.hub_subfolder is None:
                repository = name_repository(asked, *parts)
            else:
                repository = name_repository(asked)
                training.hub_subfolder = name_folder(asked.hub_subfolder, *parts)
            publication = Publication(
                directory, repository, asked.hub_token, asked.hub_private_repo, training.hub_subfolder
            )
            training.hub_model_id = repository
        return Run(
            method.name,
            seed,
            f"{self.label}, {method.name}, seed {seed}",
            directory,
            identify(self.identity, vars(method.prompt), training),
            make_trainer=lambda: self.make_trainer(method, training),
            load_trainer=lambda: self.load_trainer(method, training),
            measure=self.measure,
            measured=list(self.columns.values()),
            prepare=lambda: self.prepare(method, seed),
            work=self.work_of(method),
            publication=publication,
            alone=self.why_alone(method, training),
        )

    def directory_of(self, method: Method[P], seed: int) -> Path:
        """Where a run's checkpoints, adapter and result go."""
        return self.directory / method.name / f"seed{seed}"

    def training_of(self, method: Method[P], seed: int) -> SharpPromptTrainingArguments:
        """A method's training arguments for one run."""
        asked = method.training
        num_workers = asked.dataloader_num_workers if self.decodes_images(method) else 0
        return dataclasses.replace(
            asked,
            output_dir=str(self.directory_of(method, seed)),
            seed=seed,
            dataloader_num_workers=num_workers,
            dataloader_persistent_workers=asked.dataloader_persistent_workers and num_workers > 0,
            dataset_name=self.name if Path(self.dataset).expanduser().exists() else self.dataset,
            hub_model_id=None,
            push_to_hub=False,  # A run is pushed when it has ended, so that the Hub cannot end it.
        )

    def make_table(self, title: str, results: Results) -> Table:
        """Make the table of the methods."""
        return make_table(title, results, self.columns, self.costs)
