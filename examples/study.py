"""The study of docs/study.md, on the embedded demo: `python examples/study.py`, or `sharp-prompt study`.

`--help` lists its parts; `--parts headline` is the one of a quarter of an hour.
"""

import sys

from hf_sharp_prompt.experiments.failures import run_script
from hf_sharp_prompt.study import command


if __name__ == "__main__":
    run_script(lambda: command.main(sys.argv[1:]))
