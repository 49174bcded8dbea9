"""`sharp-prompt`'s commands under a launcher, as on two GPUs."""

import json
import re

from support.demo_images import make_folder
from two_processes.launch import run_in_two_processes


def test_two_processes_train_one_adapter(tmp_path):
    """Otherwise each process would train by itself, and both would write the same files."""
    folder = make_folder(tmp_path / "shapes", classes=3, train=2, test=1)
    words = ["--dataset", folder, "--recipes", "coop", "--num_train_epochs", "1", "--output_dir", tmp_path / "runs"]
    printed = run_in_two_processes("-m", "hf_sharp_prompt", "train", *words, ACCELERATE_USE_CPU="0")
    adapter = tmp_path / "runs" / "shapes" / "coop" / "seed1"
    assert json.loads((adapter / "_settings.json").read_text())["world_size"] == 2
    assert printed.count("3 classes, 6 training images") == 1
    assert printed.splitlines()[-1].endswith(f"ADAPTER: {adapter}")


def test_the_processes_of_a_command_that_does_not_train_meet_too(tmp_path):
    """Otherwise each would predict all images, and both would write the same pictures."""
    script = tmp_path / "meet.py"
    script.write_text(
        "from accelerate import PartialState\n"
        "from hf_sharp_prompt.experiments.console import prepare_process\n"
        "prepare_process()\n"
        "state = PartialState()\n"
        "print(f'process {state.process_index} of {state.num_processes}')\n"
        "state.destroy_process_group()\n"
    )
    printed = run_in_two_processes(script)
    assert sorted(re.findall(r"process (\d of \d)", printed)) == ["0 of 2", "1 of 2"]
