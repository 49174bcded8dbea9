"""The command line: `sharp-prompt COMMAND …` and `python -m hf_sharp_prompt`."""

import os
import runpy
import signal
import subprocess
import sys
from configparser import ConfigParser
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import yaml
from support.progress import without_progress

import hf_sharp_prompt
from hf_sharp_prompt import __main__ as command_line
from hf_sharp_prompt import demo
from hf_sharp_prompt.experiments import (
    all_classes,
    base_to_novel,
    cross_dataset,
    detection,
    domain_generalization,
    few_shot,
    long_tail,
)
from hf_sharp_prompt.experiments.manuals.dense import SCENE_TASKS
from hf_sharp_prompt.experiments.manuals.shared import FAMILIAR_TASKS, UNFAMILIAR_TASKS
from hf_sharp_prompt.experiments.recipes import RECIPES, read_recipe


ROOT = Path(__file__).parents[1]
PROTOCOLS = [
    "base2novel",
    "few_shot",
    "cross_dataset",
    "domain_generalization",
    "detection",
    "long_tail",
    "segmentation",
]
TRAINING = ["train", *PROTOCOLS]


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command with words, as if typed; returns its exit code, and what it prints and says on stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sharp-prompt", *words])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        return (ended.value.code, *capsys.readouterr())

    return run


COMMAND = ["-m", "hf_sharp_prompt"]


@pytest.mark.parametrize(
    "words",
    [
        [*COMMAND, "--help"],
        COMMAND,
        [*COMMAND, "recipes"],
        [*COMMAND, "recipes", "show", "gcscoop"],
        *([*COMMAND, name, "--help"] for name in (*TRAINING, "predict", "evaluate", "summarize", "convert")),
        *([f"examples/run_{name}.py", "--help"] for name in PROTOCOLS),
    ],
)
def test_help_and_recipes_do_not_wait_for_torch(words):
    """Its import takes seconds, and a list of commands should not."""
    finished = subprocess.run(
        [sys.executable, "-X", "importtime", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert finished.returncode == 0
    assert finished.stdout
    imported = {line.rpartition("|")[2].strip() for line in finished.stderr.splitlines()}
    assert "yaml" in imported, "else nothing was measured"
    assert not imported & {"torch", "transformers", "datasets", "accelerate"}


@pytest.mark.parametrize(
    ("argv", "original", "is_command"),
    [
        (["-m", "recipes"], ["python", "-m", "hf_sharp_prompt", "recipes"], True),
        (["/usr/bin/sharp-prompt", "--help"], ["python", "/usr/bin/sharp-prompt", "--help"], True),
        (["-m", "train", "--seeds", "1"], ["python", "-m", "hf_sharp_prompt", "train", "--seeds", "1"], True),
        (["/usr/bin/sharp-prompt", "train"], ["python", "/usr/bin/sharp-prompt", "train"], True),
        (["-m"], ["python", "-m", "mine.train"], False),
        (["train.py", "-m", "hf_sharp_prompt"], ["python", "train.py", "-m", "hf_sharp_prompt"], False),
        (["-c"], ["python", "-c", "import hf_sharp_prompt"], False),
        ([], ["python"], False),
    ],
)
def test_only_the_command_line_leaves_the_imports_for_later(argv, original, is_command, monkeypatch):
    """Otherwise `import hf_sharp_prompt` in somebody's program would not make PEFT know prompts."""
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", original)
    assert hf_sharp_prompt._is_command_line() == is_command


def test_public_names_are_there_in_a_command_too(monkeypatch):
    """What a command imports, such as a rule of the user's, may import the package's names."""
    monkeypatch.setattr(sys, "argv", ["sharp-prompt", "train"])
    spec = spec_from_file_location("hf_sharp_prompt", hf_sharp_prompt.__file__)
    package = module_from_spec(spec)
    spec.loader.exec_module(package)
    assert not vars(package).keys() & {*package.__all__} - {"__version__"}, (
        "nothing is imported before it is asked for"
    )
    for name in package.__all__:
        assert getattr(package, name) == getattr(hf_sharp_prompt, name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing


def test_help_names_every_command(run):
    code, printed, _ = run("--help")
    assert code == 0
    for name, command in command_line.COMMANDS.items():
        assert name in printed
        assert callable(import_module(f"hf_sharp_prompt.{command.module}").main)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_an_example_is_its_command(name, monkeypatch, capsys):
    """What the scripts of a clone do, the command does for whoever installed the package."""
    script = ROOT / "examples" / f"run_{name}.py"
    assert f"`sharp-prompt {name}` is the same command" in script.read_text()
    module = import_module(f"hf_sharp_prompt.{command_line.COMMANDS[name].module}")
    taken = []
    monkeypatch.setattr(module, "main", lambda words: taken.append(words) or 3)
    monkeypatch.setattr(sys, "argv", [str(script), "--seeds", "1"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert (ended.value.code, taken) == (3, [["--seeds", "1"]])


@pytest.mark.parametrize("name", TRAINING)
def test_a_commands_manual_is_that_of_its_module(name, run, monkeypatch):
    code, printed, _ = run(name, "--help")
    assert code == 0
    assert printed.startswith(f"usage: sharp-prompt {name} ")
    assert all(flag in printed for flag in ("--model", "--dataset", "--recipes", "--seeds", "--smoke", "--sharpness"))
    assert "--adam_beta1" not in printed
    module = import_module(f"hf_sharp_prompt.{command_line.COMMANDS[name].module}")
    monkeypatch.setattr(command_line, "run", module.main)
    assert run("--help")[1].partition("\n\n")[2] == printed.partition("\n\n")[2]


@pytest.mark.parametrize("name", TRAINING)
def test_help_all_lists_every_argument(name, run):
    code, printed, said = run(name, "--help_all")
    assert (code, said) == (0, "")
    assert all(f"--{flag}" in printed for flag in (*manual_of(name).options, "adam_beta1", "help_all"))


def manual_of(name):
    return import_module(f"hf_sharp_prompt.{command_line.COMMANDS[name].manual}").MANUAL


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("train", all_classes.TrainArguments),
        ("train", all_classes.ViTTrainArguments),
        ("base2novel", base_to_novel.BaseToNovelArguments),
        ("few_shot", few_shot.FewShotArguments),
        ("cross_dataset", cross_dataset.CrossDatasetArguments),
        ("domain_generalization", domain_generalization.DomainGeneralizationArguments),
        ("detection", detection.DetectionArguments),
        ("long_tail", long_tail.LongTailArguments),
    ],
)
def test_the_manual_shows_the_defaults_that_are_used(name, kind):
    """`--help` does not wait for torch, so it is not made from the arguments themselves."""
    in_words = (None, str(demo.CLIP_PATH), str(demo.OWLVIT_PATH), str(demo.VIT_PATH))
    used = vars(kind())
    for option, description in manual_of(name).options.items():
        if option in used and used[option] in in_words:
            assert description.default is None
            assert "Default: " in description.help
        elif option in used:
            assert description.default == used[option]
            assert "Default: " not in description.help


def test_the_manuals_know_the_demos_tasks():
    """They name them without importing the demo, which takes a second."""
    assert (*demo.UNFAMILIAR_TASKS,) == UNFAMILIAR_TASKS
    assert (*demo.FAMILIAR_TASKS,) == FAMILIAR_TASKS
    assert manual_of("base2novel")["dataset"].default == manual_of("train")["dataset"].default == [demo.DEFAULT_TASK]
    assert manual_of("long_tail")["dataset"].default == [demo.LONG_TAIL_TASK.name]
    assert (*demo.SCENE_TASKS,) == SCENE_TASKS
    assert manual_of("detection")["dataset"].default == [demo.DEFAULT_SCENE_TASK]
    assert {*manual_of("cross_dataset")["targets"].default, *manual_of("domain_generalization")["targets"].default} < {
        *UNFAMILIAR_TASKS
    }


@pytest.mark.parametrize(
    "module", [base_to_novel, few_shot, cross_dataset, domain_generalization, detection, long_tail]
)
def test_the_manual_names_the_directory_of_results_that_is_used(module):
    text = " ".join(module.MANUAL.format().split())
    assert f"Default: {module.argument_groups().training['output_dir']}." in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bas2novel"], "There is no command 'bas2novel'; did you mean 'base2novel'?"),
        (["base2novel", "--recipes", "coup"], "There is no recipe 'coup'; did you mean 'coop'?"),
        (["long_tail", "--recipes", "coup"], "There is no recipe 'coup'"),
        (["recipes", "show", "coop+asm"], "no sharpness rule, objective or loss 'asm' to add to coop; did you mean"),
        (["convert", "nothing.pth.tar-5", "out", "--base", "nothing"], "nothing.pth.tar-5"),
    ],
)
def test_a_wrong_word_is_answered_with_what_would_be_right(words, message, run):
    code, _, said = run(*words)
    assert code == 2
    assert message in said
    assert len(without_progress(said).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "consequence"),
    [
        *((name, "The same command continues where it stopped.") for name in TRAINING),
        (
            "predict",
            "What was predicted is on standard output; the same command starts with the first image.",
        ),
        ("evaluate", "The same command starts from the beginning."),
    ],
)
def test_an_interrupted_command_says_whether_it_can_be_continued(name, consequence, run, monkeypatch):
    def interrupt(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module(f"hf_sharp_prompt.{command_line.COMMANDS[name].module}"), "main", interrupt)
    code, printed, said = run(name, "anything")
    assert (code, printed) == (130, "")
    assert without_progress(said) == f"Interrupted. {consequence}\n"


@pytest.mark.parametrize("buffered", [True, False])
def test_a_command_ends_quietly_when_nobody_reads_its_output(buffered):
    """As of `sharp-prompt recipes | head -3`; pipelines tell by the exit code that not all was written."""
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, *([] if buffered else ["-u"]), *COMMAND, "recipes"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    ended = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, env=environment)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, b"")


def test_another_pipe_that_breaks_is_an_error(monkeypatch, capfd):
    """Such as a connection to the Hub."""

    def break_pipe(argv):
        raise BrokenPipeError("the connection is closed")

    monkeypatch.setattr(command_line, "run", break_pipe)
    monkeypatch.setattr(sys, "argv", ["sharp-prompt", "recipes"])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert (ended.value.code, *capfd.readouterr()) == (2, "", "the connection is closed\n")


def test_recipes_are_listed_with_a_line_on_each(run):
    _, printed, _ = run("recipes")
    lines = dict(line.split(maxsplit=1) for line in printed.splitlines())
    assert lines["coop_asam"] == "CoOp + ASAM: SAM in a neighbourhood that scales with each weight."
    assert lines["long_tail/ce"].startswith("VPT-deep + cross entropy: ")


@pytest.mark.parametrize("name", ["gcscoop_nfl", "coop+asam+kgcoop", "long_tail/vpt_sam"])
def test_a_shown_recipe_is_a_recipe_that_builds_on_nothing(name, run, tmp_path):
    _, printed, _ = run("recipes", "show", name)
    (tmp_path / "shown.yaml").write_text(printed)
    folder = RECIPES / Path(name).parent
    original, shown = read_recipe(Path(name).name, folder), read_recipe(str(tmp_path / "shown.yaml"))
    assert "base" not in yaml.safe_load(printed)
    for on_demo in (False, True):
        assert shown.resolve(on_demo) == original.resolve(on_demo)


def test_the_script_is_installed():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    name, _, target = setup["options.entry_points"]["console_scripts"].strip().partition(" = ")
    module, _, function = target.partition(":")
    assert (name, getattr(import_module(module), function)) == ("sharp-prompt", command_line.main)
