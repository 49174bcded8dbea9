"""Do prompts overfit, and which method keeps them from it? The tables and figures of the papers, on the demo.

Without arguments every method runs on every task of the embedded demo, three seeds each, and the figures are those of
SubPT's and GCSCoOp's papers: accuracy on base and novel classes by epoch, the angle between the gradient and the
perturbed gradient, and the loss around the learned prompts. It takes the arguments of base-to-novel experiments, so it
may be kept small, or be run on data of yours:

    accelerate launch examples/study_overfitting.py
    accelerate launch examples/study_overfitting.py --dataset colour_shape_tint --recipes coop subpt gcscoop
    accelerate launch examples/study_overfitting.py --model openai/clip-vit-base-patch16 --dataset oxford_pets

Interrupted, the same command continues where it stopped. Figures and tables are written into the output directory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from accelerate import PartialState
from peft import PeftModel
from rich.box import MARKDOWN
from rich.table import Table
from torch.utils.data import DataLoader

from .. import sharpness
from ..data import ImageFeatures
from ..files import written_whole
from ..plots import plot_accuracy_by_epoch, plot_angles, plot_landscapes
from .arguments import CLIPPromptArguments
from .averages import average, in_all
from .base_to_novel import BaseToNovel, argument_groups
from .console import PlainConsole
from .figures import histories_of
from .index import write_index
from .methods import Method
from .protocol import command_line, load_experiments, one_per_data_set, start
from .publishing import Publication
from .recipes import list_recipes
from .results import Results, in_percent, name_of_row, succeeded, write_json
from .runs import end_of
from .tables import make_table


MANUAL = __doc__
OUTPUT_DIR = "runs/study_overfitting"
# The methods in the figures; the tables have all.
BY_EPOCH = ("zero-shot", "coop", "subpt", "subpt_nfl", "gcscoop", "coop_sample")
ANGLES = ("coop_sam", "gcscoop", "coop_sample")
LANDSCAPES = ("coop", "subpt", "coop_sam", "gcscoop")
SPAN, POINTS = 3.0, 21  # Landscapes: filter norms to either side, and points along an axis.


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    args, methods, console = start(argument_groups(), MANUAL, with_defaults(argv))
    for method in methods:
        if method.name not in BY_EPOCH:
            method.training = dataclasses.replace(method.training, eval_strategy="no")  # It is measured at the end.
    directory = Path(methods[0].training.output_dir or "")
    waiting = load_experiments(one_per_data_set(BaseToNovel), args, methods, console)
    command = command_line(["python", "examples/study_overfitting.py"], argv)
    title = f"mean of {len(waiting)} data sets" if len(waiting) > 1 else waiting[0].name
    results: dict[str, Results] = {}
    publications: list[Publication] = []
    while waiting:  # An experiment's images are released when it is done.
        experiment = waiting.pop(0)
        results[experiment.dataset], pushed = experiment.run(methods, console, command)
        publications += pushed
        if PartialState().is_main_process:
            draw_landscapes(experiment, methods, args.seeds[0], results[experiment.dataset])
    averages = average(list(results.values()), list(BaseToNovel.columns.values()))
    table = make_table(f"{title}, {args.shots} shots", averages, BaseToNovel.columns)
    console.print(table)
    if PartialState().is_main_process:
        write_json(directory / "summary.json", results)
        write_tables([table, make_table_by_data_set(results)], directory / "tables.md")
        draw_by_epoch(list(results.values()), directory, title)
        write_index(directory)
        console.print(
            f"Tables: {directory}/tables.md. Figures: accuracy_by_epoch.png and angles.png beside it, and "
            "*/landscapes.png of each data set.",
            soft_wrap=True,
        )
    return end_of(list(results.values()), publications, console)


def with_defaults(argv: Sequence[str]) -> list[str]:
    """The command line, with this study's defaults where it says nothing."""
    recipes = [name for name in list_recipes() if "/" not in name]
    defaults = {"--output_dir": [OUTPUT_DIR], "--dataset": ["all"], "--recipes": recipes}
    said = {word.partition("=")[0] for word in argv}
    return [*argv, *(word for name, values in defaults.items() if name not in said for word in (name, *values))]


def make_table_by_data_set(results: dict[str, Results]) -> Table:
    """Make a table of harmonic means, so that an average does not hide the differences."""
    table = Table("HM", *results, title="By data set", title_justify="left")
    for name in dict.fromkeys(name for each in results.values() for name in each):
        runs = [each.get(name, []) for each in results.values()]
        reached = (in_percent([run["hm"] for run in succeeded(each)]) for each in runs)
        table.add_row(name_of_row(name, [run for each in runs for run in each]), *reached)
    return table


def write_tables(tables: list[Table], path: Path) -> None:
    """Write tables in Markdown."""
    with written_whole(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        for table in tables:
            table.box = MARKDOWN
            PlainConsole(file=file, width=10_000).print(table)


def draw_by_epoch(results: list[Results], directory: Path, title: str) -> None:
    """Draw what changes over training, as means over the data sets."""
    runs = {name: in_all(results, name) for name in (*BY_EPOCH, *ANGLES)}
    histories = {
        name: [average_history(histories_of(list(each))) for each in runs[name]] for name in BY_EPOCH if runs[name]
    }
    plot_accuracy_by_epoch(histories, directory / "accuracy_by_epoch.png", title=title)
    cosines = {
        name: [average_history([{"cosine": run["cosines"]} for run in each])["cosine"] for each in runs[name]]
        for name in ANGLES
        if runs[name]
    }
    if cosines:
        plot_angles(cosines, directory / "angles.png", title=title)


def average_history(histories: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    """By epoch, the mean over data sets."""
    return {key: [mean(values) for values in zip(*(each[key] for each in histories))] for key in histories[0]}


def draw_landscapes(
    experiment: BaseToNovel, methods: Sequence[Method[CLIPPromptArguments]], seed: int, results: Results
) -> None:
    """Draw the loss on the training images around the prompts that the methods of one shape have learned."""
    landscapes, path = {}, experiment.directory / "landscapes.png"
    for method in methods:
        adapters = [run["adapter"] for run in succeeded(results[method.name]) if run["seed"] == seed]
        if method.name not in LANDSCAPES or not adapters:
            continue
        images, _ = experiment.images_to_train_on(method, seed)
        if not isinstance(images, ImageFeatures):
            return  # They would be encoded at every point.
        model = PeftModel.from_pretrained(experiment.load_model(), adapters[0], is_trainable=True)
        loader = DataLoader(images, batch_size=len(images))
        landscapes[method.name] = sharpness.landscape(model, loader, span=SPAN, points=POINTS)
    if landscapes:
        plot_landscapes(landscapes, path, title=f"{experiment.name}: loss in filter norms of the context")
