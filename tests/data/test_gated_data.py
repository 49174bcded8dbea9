"""What the Hub refuses is said with its remedy."""

import subprocess
import sys
from pathlib import Path

from hub.local_hub import LocalHub


SCRIPT = """
import os
from hf_sharp_prompt.data import load_image_dataset

def attempt(name):
    try:
        load_image_dataset(name)
    except ValueError as error:
        print(error)

attempt("lab/cells")
attempt("lab/none")
del os.environ["HF_TOKEN"]
attempt("lab/cells")
"""


def test_gated_data_are_told_from_data_that_do_not_exist(tmp_path: Path):
    """Otherwise the user looks for a wrong name, and does not log in or ask for access."""
    with LocalHub() as hub:
        hub.gated.add("lab/cells")
        command = [sys.executable, "-c", SCRIPT]
        done = subprocess.run(
            command, env=hub.environment(tmp_path), cwd=tmp_path, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    no_access, no_data, no_login = done.stdout.splitlines()
    page = "lab/cells is a gated data set on the Hub: accept its terms on https://huggingface.co/datasets/lab/cells"
    assert no_access == f"{page}, and wait until access is granted to the account of your token."
    assert no_login == f"{page}, and log in with `hf auth login` or set HF_TOKEN."
    assert no_data.startswith("There is no file, folder, demo task or data set on the Hub 'lab/none'")
    assert f"as a path it was looked for at {tmp_path}/lab/none" in no_data
