import runpy
from pathlib import Path


ROOT = Path(__file__).parents[2]


def test_the_page_says_what_the_docstrings_say():
    """A table of methods that has drifted from the code sends people to the wrong rule."""
    made = runpy.run_path(str(ROOT / "scripts" / "make_sharpness_page.py"))["page"]()
    assert (ROOT / "docs" / "sharpness.md").read_text(encoding="utf-8") == made, (
        "run `python scripts/make_sharpness_page.py`"
    )
