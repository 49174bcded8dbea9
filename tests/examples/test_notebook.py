"""examples/quickstart.ipynb runs from its first cell to its last, without a network."""

import json
from pathlib import Path

import transformers


NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"


def test_the_notebook_runs_from_top_to_bottom(capsys):
    names = {}
    verbosity = transformers.utils.logging.get_verbosity()
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, {cell['id']}", "exec", dont_inherit=True), names)
    transformers.utils.logging.set_verbosity(verbosity)
    assert names["results"]["CoOp"]["base"] > names["results"]["zero-shot CLIP"]["base"], "something is learned"
    assert {answer["label"] for answer in names["answers"]} == {*names["names"]["novel"]}
    assert "said to be" in capsys.readouterr().out
