"""The study as commands of the protocols, in the order of their weight for its conclusions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..files import written_whole
from .plan import REFERENCE, SUITES, Plan


METHODS, TRAJECTORIES = "methods", "trajectories"  # Directories of the study.
LANDSCAPES = ("coop", "coop_sam", "gcscoop", "subpt")
"""The methods whose landscapes are drawn."""
EPOCHS_BETWEEN = 3
"""The epochs between two measurements on the way."""
STEPS_PER_EPOCH = 4
"""With 4 shots and 32 to 36 base classes, batches of 32, and the last incomplete one dropped."""
NO_CHECKPOINTS = ("--save_strategy", "no")
"""A run is over in seconds, and begins again if it is killed."""
AT_THE_END = ("--eval_strategy", "no")
EVERY_EPOCH = ("--eval_strategy", "epoch")
EVERY_3_EPOCHS = ("--eval_strategy", "steps", "--eval_steps", str(EPOCHS_BETWEEN * STEPS_PER_EPOCH))


@dataclass(frozen=True)
class Command:
    """A command of a protocol.

    Args:
        name: What it is called in the study's log.
        words: The words behind the module.
        module: The module that Python runs.
    """

    name: str
    words: tuple[str, ...]
    module: str = "hf_sharp_prompt"


def write_recipes(recipes: Mapping[str, Mapping[str, Any]], directory: Path) -> list[str]:
    """Write recipes as files, so that a protocol can be started with them.

    Args:
        recipes: The values by the recipe's name.
        directory: Where the files go.

    Returns:
        The files' paths.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = {name: directory / f"{name}.yaml" for name in recipes}
    for name, values in recipes.items():
        with written_whole(paths[name]) as unfinished:
            unfinished.write_text(yaml.safe_dump(dict(values), sort_keys=False), encoding="utf-8")
    return [str(path) for path in paths.values()]


def setting_directory(output_dir: Path, shots: int) -> Path:
    """Where the runs go that a setting with this many shots is chosen by."""
    return output_dir / "setting" / f"{shots}_shots"


def long_tail_directory(output_dir: Path, imbalance: int) -> Path:
    """Where the runs with this imbalance go."""
    return output_dir / "long_tail" / f"imbalance_{imbalance}"


def setting_commands(plan: Plan, output_dir: Path) -> list[Command]:
    """The runs of CoOp that the setting is chosen by."""
    commands = []
    for shots in dict.fromkeys(setting.shots for setting in plan.settings):
        settings = [setting for setting in plan.settings if setting.shots == shots]
        recipes = write_recipes(
            {setting.name: plan.methods[REFERENCE].values(setting, None) for setting in settings},
            output_dir / "recipes" / "setting",
        )
        commands += [
            base2novel(
                task,
                recipes,
                shots,
                plan.setting_seeds,
                setting_directory(output_dir, shots),
                "validation",
                EVERY_EPOCH,
            )
            for task in SUITES["familiar"]
        ]
    return commands


def candidate_name(method: str, value: Any) -> str:
    """The name of a method with a candidate's value of its hyperparameter."""
    return f"{method}_{value:g}"


def hyperparameter_commands(plan: Plan, output_dir: Path) -> list[Command]:
    """The runs that the methods' own hyperparameters are chosen by."""
    tried = {name: method for name, method in plan.methods.items() if method.candidates}
    recipes = write_recipes(
        {
            candidate_name(name, value): method.values(plan.setting, value)
            for name, method in tried.items()
            for value in method.candidates
        },
        output_dir / "recipes" / "hyperparameters",
    )
    shots, seeds = plan.setting.shots, plan.hyperparameter_seeds
    return [
        base2novel(task, recipes, shots, seeds, output_dir / "hyperparameters", "validation", AT_THE_END)
        for task in plan.hyperparameter_tasks
    ]


def method_commands(
    plan: Plan,
    output_dir: Path,
    suite: str,
    methods: Iterable[str],
    seeds: Iterable[int],
    *,
    curves: bool = False,
    directory: str = METHODS,
) -> list[Command]:
    """The runs of methods on a suite's tasks.

    Args:
        plan: The plan.
        output_dir: The study's directory.
        suite: The suite.
        methods: The methods' names.
        seeds: The seeds.
        curves: Whether accuracy is measured on the way, and not at the end alone.
        directory: The directory of the study that results go to.

    Raises:
        ValueError: A method's hyperparameter has not been chosen.
    """
    chosen = {name: plan.methods[name] for name in methods}
    if waiting := [name for name, method in chosen.items() if method.candidates and method.chosen is None]:
        raise ValueError(
            f"No hyperparameter has been chosen for {', '.join(waiting)}; run the part hyperparameters first."
        )
    recipes = write_recipes(
        {name: method.values(plan.setting, method.chosen) for name, method in chosen.items()},
        output_dir / "recipes" / directory,
    )
    seeds = list(seeds)
    return [
        base2novel(
            task,
            recipes,
            plan.setting.shots,
            seeds,
            output_dir / directory,
            "test",
            EVERY_3_EPOCHS if curves else AT_THE_END,
        )
        for task in SUITES[suite]
    ]


def explanation_commands(plan: Plan, output_dir: Path, suite: str, seeds: Iterable[int]) -> list[Command]:
    """Measurements of what may explain the accuracy of the methods that learn CoOp's context, on a suite's tasks."""
    names = [name for name, method in plan.methods.items() if method.learns_a_context]
    return [of_module("explanations", command) for command in method_commands(plan, output_dir, suite, names, seeds)]


def of_module(name: str, command: Command) -> Command:
    """A command of a module of the study that takes the same arguments as a protocol's command."""
    return Command(f"{name}_{command.name}", command.words[1:], f"hf_sharp_prompt.study.{name}")


def landscape_command(plan: Plan, output_dir: Path, task: str) -> Command:
    """The figure of the loss around some methods' prompts on a task."""
    command = method_commands(plan, output_dir, "familiar", LANDSCAPES, [1])[SUITES["familiar"].index(task)]
    return of_module("landscapes", command)


def trajectory_commands(plan: Plan, output_dir: Path) -> list[Command]:
    """Records of the path of CoOp's prompt on every task of `familiar`."""
    commands = method_commands(plan, output_dir, "familiar", [REFERENCE], [1], directory=TRAJECTORIES)
    return [of_module("recording", command) for command in commands]


def long_tail_commands(plan: Plan, output_dir: Path) -> list[Command]:
    """The runs on long tails, by imbalance."""
    study = plan.long_tail
    recipes = write_recipes({name: study.values(name) for name in study.methods}, output_dir / "recipes" / "long_tail")
    seeds = [str(seed) for seed in range(1, study.seeds + 1)]
    return [
        Command(
            f"long_tail_{imbalance}_seed{seed}",
            (
                *("long_tail", "--recipes", *recipes, "--seeds", seed, "--imbalance_factor", str(imbalance)),
                *("--max_per_class", str(study.max_per_class), *NO_CHECKPOINTS),
                *("--output_dir", str(long_tail_directory(output_dir, imbalance))),
            ),
        )
        for seed in seeds
        for imbalance in study.imbalance_factors
    ]


def base2novel(
    task: str,
    recipes: Sequence[str],
    shots: int,
    seeds: Sequence[int],
    output_dir: Path,
    split: str,
    evaluate: Sequence[str],
) -> Command:
    """A command of the base-to-novel protocol.

    Args:
        task: The task.
        recipes: The paths of the recipes.
        shots: Training images of each class.
        seeds: The seeds.
        output_dir: Where results go.
        split: The split that is measured on.
        evaluate: Arguments that say when accuracy is measured.
    """
    name = f"{output_dir.name}_{task}_{len(recipes)}_recipes_seeds_{'_'.join(map(str, seeds))}"
    return Command(
        name,
        (
            *("base2novel", "--dataset", task, "--shots", str(shots), "--seeds", *map(str, seeds)),
            *("--recipes", *recipes, "--output_dir", str(output_dir)),
            *("--eval_split", split, *evaluate, *NO_CHECKPOINTS),
        ),
    )
