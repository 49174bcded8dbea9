"""`sharp-prompt`'s commands under a launcher, as on two GPUs."""

import json

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
