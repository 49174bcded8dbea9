import runpy
from pathlib import Path


DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_says_what_the_docstrings_say():
    """A table of methods that has drifted from the code sends people to the wrong rule."""
    made = runpy.run_path(str(DOCS / "make_sharpness.py"))["page"]()
    assert (DOCS / "sharpness.md").read_text(encoding="utf-8") == made, "run `python docs/make_sharpness.py`"
