"""Run examples one after the other in one process, each as if it were typed: starting Python takes longer than one.

The argument is JSON: for each example its path and its arguments.
"""

import json
import os
import runpy
import sys
from pathlib import Path

import torch

from hf_sharp_prompt.experiments import console


def main() -> None:
    for script, *arguments in json.loads(sys.argv[1]):
        sys.argv = [script, *arguments]
        sys.path[0] = str(Path(script).parent)
        code = 0
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as ended:
            code = ended.code
        print(f"{Path(script).stem} ended with {code}", flush=True)
    show_threads()


def show_threads() -> None:
    """Print how many threads torch has here, and how many where no limit is set."""
    before = torch.get_num_threads()
    del os.environ["OMP_THREAD_LIMIT"]
    console.use_all_cores()
    print(f"threads: {before}, then {torch.get_num_threads()}", flush=True)


if __name__ == "__main__":
    main()
