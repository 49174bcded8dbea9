"""Every command of README and the pages of docs/ runs as it is written, page by page, in the order of the page.

`python -m pytest -m documented --dist load` starts these tests, as a workflow on GitHub does; in the default suite
`test_pages.py` has what the parsers think of each command. A page's commands share a folder with what the page names.

The words of a command are not changed. What would take hours is cut short around it: `--smoke`'s few images, one seed
and two epochs hold for every protocol, but results stay where the command says, and are pushed if it says so, to a
stand-in of the Hub; suites have two tasks of few images, and the study few settings and methods. `accelerate launch`
and `torchrun` start their program in this process alone; several are the business of `tests/two_processes`.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import gradio
import numpy as np
import pytest
import torch
import transformers
from accelerate.commands.launch import launch_command_parser
from datasets import ClassLabel, Dataset, DatasetDict, Features
from datasets import Image as ImageFeature
from docs.test_detection_segmentation_page import make_image as make_scene
from docs.test_pages import NAMES, PAGES
from hub.client import without_waiting
from peft import get_peft_model
from PIL import Image
from support.demo_images import images_once
from support.pages import ROOT, commands_of, grow
from support.scripts import run_script
from torch.distributed.run import get_args_parser
from transformers import CLIPConfig, CLIPModel

from hf_sharp_prompt import CLIPPromptConfig, demo
from hf_sharp_prompt import __main__ as command_line
from hf_sharp_prompt.data import catalogue
from hf_sharp_prompt.experiments import methods, protocol
from hf_sharp_prompt.experiments.clip import CLIPArguments
from hf_sharp_prompt.experiments.smoke import shortened
from hf_sharp_prompt.study import choices
from hf_sharp_prompt.study import command as study
from hf_sharp_prompt.study import plan as study_plan


pytestmark = pytest.mark.documented

INSTALLS = "what is installed is this very environment; .ci/run types it in a new one"
PRETRAINS = "it trains the shipped checkpoint for hours, and writes it into the package"
NOT_RUN = {
    "pip install -e .[plots]": INSTALLS,
    "pip install -e .[space]": INSTALLS,
    "pip install -e .[test]": INSTALLS,
    "pip install -e .[test,browser]": INSTALLS,
    "pip install hf-sharp-prompt[onnx]": INSTALLS,
    "apt-get install chromium": "it needs rights on the machine",
    "python -m pytest": "it is the suite that has these tests; .ci/run types it",
    "python -m pytest -m browser -n 0": "it needs Chromium; .ci/run types it",
    "python scripts/pretrain_owlvit.py": PRETRAINS,
    "python scripts/pretrain_clipseg.py": PRETRAINS,
    "sharp-prompt train --dataset path/to/images --recipes gcscoop --bf16 --per_device_train_batch_size 16 "
    "--gradient_accumulation_steps 2": "it needs a GPU with bfloat16",
    "sharp-prompt base2novel --recipes coop_sam --bf16 --torch_compile_mode reduce-overhead": "it needs a GPU",
    "python -m hf_sharp_prompt.data.catalogue": "it asks the Hub itself about every data set",
}
"""Commands that are parsed alone, and why."""

EXIT_CODES = {
    "python -m hf_sharp_prompt.data.catalogue --data_root ~/data": 1,  # the folders here have few images
}

MODELS = {
    "openai/clip-vit-base-patch16": demo.CLIP_PATH,
    "google/vit-base-patch16-224-in21k": demo.VIT_PATH,
    "google/owlvit-base-patch32": demo.OWLVIT_PATH,
    "CIDAS/clipseg-rd64-refined": demo.CLIPSEG_PATH,
}
TRAINED = "sharp-prompt train --model openai/clip-vit-base-patch16 --dataset path/to/images --output_dir mine"
TRAINS_BEFORE = {
    "docs/faq.md": [f"{TRAINED} --recipes gcscoop"],
    "docs/protocols.md": [
        "sharp-prompt base2novel --recipes coop",
        "sharp-prompt base2novel --recipes coop --seeds 2 --output_dir other_machine/base2novel",
    ],
    "docs/space.md": [
        "sharp-prompt train --dataset flowers --recipes coop",
        "sharp-prompt train --dataset flowers --recipes gcscoop",
    ],
}
"""What a reader of a page has done before: commands by page."""

CODE_BEFORE = {"docs/detection_segmentation.md": 2}
"""How many of a page's blocks of Python come before its commands."""


def run(words: list[str]) -> int:
    """Run a command in this process; returns its exit code."""
    program, *rest = words
    if program == "sharp-prompt":
        return command_line.run(rest)
    if program in ("accelerate", "torchrun"):
        launched = (
            launch_command_parser().parse_args(rest[1:])
            if program == "accelerate"
            else get_args_parser().parse_args(rest)
        )
        module = ["-m"] if launched.module else []
        return run(["python", *module, launched.training_script, *launched.training_script_args])
    if words[:3] == ["python", "-m", "hf_sharp_prompt"]:
        return command_line.run(rest[2:])
    if words[:2] == ["python", "-m"]:
        return import_module(f"{rest[1]}.__main__").main(rest[2:])
    assert program == "python", f"nobody knows how to run {program}"
    return run_script(ROOT / rest[0], *rest[1:])


@pytest.mark.parametrize("page", [name for name in NAMES if commands_of(PAGES[name])])
def test_the_commands_of_a_page_run(page, here, capsys):
    commands = [line.split(" ") for line in TRAINS_BEFORE.get(page, [])] + commands_of(PAGES[page])
    run_code_before(page)
    for words in commands:
        if line_of(words) in NOT_RUN:
            continue
        verbosity = transformers.utils.logging.get_verbosity()
        try:
            code = run(words)
        except BaseException as error:  # whatever it is, the command is what one has to know
            pytest.fail(f"{page}: {line_of(words)}: {error!r}\n{''.join(capsys.readouterr())[-3000:]}")
        transformers.utils.logging.set_verbosity(verbosity)
        said = capsys.readouterr()
        assert code == EXIT_CODES.get(line_of(words), 0), f"{page}: {line_of(words)}\n{said.out}\n{said.err[-3000:]}"


def run_code_before(page: str) -> None:
    """Train the adapters that a page's commands take from its code, which other tests run as a whole."""
    names: dict[str, object] = {}
    for block in [block for block in PAGES[page] if block.kind == "python"][: CODE_BEFORE.get(page, 0)]:
        exec(compile(block.text, page, "exec", dont_inherit=True), names)


def line_of(words: list[str]) -> str:
    """A command in a line, as `NOT_RUN` has it."""
    return " ".join(words)


def test_nothing_is_left_out_that_is_on_no_page():
    """An entry that nobody needs any more would hide the next command of these words."""
    written = {line_of(words) for name in NAMES for words in commands_of(PAGES[name])}
    assert NOT_RUN.keys() | EXIT_CODES.keys() <= written
    assert TRAINS_BEFORE.keys() <= set(NAMES)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: str, tokenizer) -> Iterator[Path]:
    """A folder with what the pages name, in a home with the papers' data, and a Hub to push to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.argv", [])
    for name, path in MODELS.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).symlink_to(path)
    for folder in ("path/to/images", "other/images", "more/photos", "flowers"):
        make_class_folders(Path(folder), ("red_star", "blue_heart", "green_moon", "pink_ring"))
    for name in ("photo.jpg", "some.jpg"):
        noise().save(name)
    for page in ("docs/data.md", "docs/detection_segmentation.md"):
        for block in PAGES[page]:
            if block.name:
                Path(block.name).write_text(block.text, encoding="utf-8")
            elif block.kind == "text" and "/" in block.text.split()[0] and not block.text.startswith("runs/"):
                grow(block.text, tmp_path, make_scene if "detection" in page else make_photo)
    for block in (block for blocks in PAGES.values() for block in blocks if block.name.endswith("_recipe.yaml")):
        Path(block.name).write_text(block.text, encoding="utf-8")
    make_papers_data(Path("data"))
    make_data_of_the_hub()
    Path("prompt_learner").mkdir()
    torch.save({"state_dict": {"ctx": torch.randn(4, 128)}}, "prompt_learner/model.pth.tar-50")
    save_adapter(checkpoint, tokenizer)
    cut_short(monkeypatch)
    with without_waiting(tmp_path / "cache", monkeypatch):
        yield tmp_path


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8))


def make_photo(path: Path) -> None:
    if path.suffix == ".jpg":
        noise().save(path)


def make_class_folders(root: Path, names: tuple[str, ...], ending: str = "png", count: int = 4) -> None:
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(count):
            noise().save(root / name / f"{name}_{number}.{ending}", format="PNG")


def make_papers_data(root: Path) -> None:
    """The papers' data as CoOp's code has them, with a few images."""
    pets = ("beagle", "pug", "persian", "sphynx")
    for folder, images, split in (
        ("oxford_pets", "images", "split_zhou_OxfordPets.json"),
        ("caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json"),
    ):
        make_class_folders(root / folder / images, pets)
        rows = [[f"{name}/{name}_{{}}.png", label, name] for label, name in enumerate(pets)]
        places = {"train": (0, 1), "val": (2,), "test": (3,)}
        content = {
            part: [[path.format(number), *rest] for path, *rest in rows for number in numbers]
            for part, numbers in places.items()
        }
        (root / folder / split).write_text(json.dumps(content))
    wnids = {"n01440764": "tench", "n01443537": "goldfish", "n02007558": "flamingo", "n01484850": "great white shark"}
    numbered = tuple(str(label) for label in range(len(wnids)))
    for folder, images, names in (
        ("imagenet", "images/train", tuple(wnids)),
        ("imagenet", "images/val", tuple(wnids)),
        ("imagenetv2", "imagenetv2-matched-frequency-format-val", numbered),
        ("imagenet-sketch", "images", tuple(wnids)),
        ("imagenet-adversarial", "imagenet-a", tuple(wnids)[:2]),
        ("imagenet-rendition", "imagenet-r", tuple(wnids)[1:3]),
    ):
        make_class_folders(root / folder / images, names, "JPEG")
        (root / folder / "classnames.txt").write_text("".join(f"{each} {name}\n" for each, name in wnids.items()))


def make_data_of_the_hub() -> None:
    """The data sets that commands take from the Hub by name, as folders of their ids, with a few images."""
    for dataset, classes, count in (("oxford_pets", 4, 12), ("cifar100", 100, 200)):
        entry = catalogue.find_entry(dataset)
        kind = ClassLabel(names=[f"thing {label}" for label in range(classes)])
        features = Features({entry.image_column: ImageFeature(), entry.label_column: kind})
        columns = {entry.image_column: [noise()] * count, entry.label_column: [i % classes for i in range(count)]}
        split = Dataset.from_dict(columns, features)
        DatasetDict(train=split, test=split).save_to_disk(entry.source)


def save_adapter(checkpoint: str, tokenizer) -> None:
    """The adapter of docs/exports.md, on a CLIP of one layer, since exporting takes seconds for each."""
    config = CLIPConfig.from_pretrained(checkpoint)
    config.text_config.num_hidden_layers = config.vision_config.num_hidden_layers = 1
    CLIPModel.from_pretrained(checkpoint, config=config).save_pretrained("clip")
    transformers.AutoProcessor.from_pretrained(checkpoint).save_pretrained("clip")
    model = get_peft_model(CLIPModel.from_pretrained("clip"), CLIPPromptConfig(num_text_tokens=4))
    model.set_classes(["beagle", "pug"], tokenizer, "{}.")
    model.save_pretrained("adapters/pets")


def cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """See the docstring of this file."""

    def parse(groups, description, argv):
        with pytest.MonkeyPatch.context() as patch:
            if "--smoke" not in argv:
                patch.setattr(methods, "shortened", keep_place)
            return methods.parse_methods(groups, description, [*argv, "--smoke"])

    def keep_place(training):
        short = shortened(training)
        return dataclasses.replace(short, output_dir=training.output_dir, push_to_hub=training.push_to_hub)

    def few_images(task, split, per_class=None):
        counts = task.images_per_class[split] if per_class is None else per_class
        few = min(counts, 3) if isinstance(counts, int) else tuple(min(count, 4) for count in counts)
        return images_once(task, split, few)

    monkeypatch.setattr(protocol, "parse_methods", parse)
    monkeypatch.setattr(demo.Task, "images", few_images)
    launch = gradio.Blocks.launch
    monkeypatch.setattr(gradio.Blocks, "launch", lambda app, **given: start_and_stop(launch, app, given))
    monkeypatch.setattr(study, "read_plan", small_plan)
    monkeypatch.setattr(study, "run", run_here)
    monkeypatch.setattr(choices, "RISE", -100)  # in two epochs base accuracy rises in no setting
    for suites in (study_plan.SUITES, CLIPArguments.suites):
        for suite, tasks in suites.items():
            monkeypatch.setitem(suites, suite, tasks[:2])


def start_and_stop(launch: Callable, app: gradio.Blocks, given: dict) -> None:
    launch(app, **given, prevent_thread_lock=True, quiet=True)
    app.close(verbose=False)


def small_plan() -> study_plan.Plan:
    """Few methods, settings and tasks."""
    plan = study_plan.read_plan()
    kept = {name: plan.methods[name] for name in ("coop", "coop_sam", "gcscoop", "subpt", "coop_sample", "vpt")}
    long_tail = dataclasses.replace(plan.long_tail, imbalance_factors=plan.long_tail.imbalance_factors[:1], seeds=1)
    return dataclasses.replace(
        plan,
        settings=plan.settings[:2],
        hyperparameter_tasks=plan.hyperparameter_tasks[:1],
        methods=kept,
        long_tail=long_tail,
    )


def run_here(commands, processes, directory):
    """The study's processes, one after the other in this one."""
    for command in commands:
        main = import_module(command.module if command.module != "hf_sharp_prompt" else "hf_sharp_prompt.__main__")
        start = main.run if command.module == "hf_sharp_prompt" else main.main
        options = {"points": 3} if command.module.endswith("landscapes") else {}
        yield command, start(list(command.words), **options)
