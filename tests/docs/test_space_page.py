"""What docs/space.md shows of asking the page from a program runs as it stands."""

import re
import runpy
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]


def test_the_block_on_space_asks_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "space.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("NO_PROXY", "*")
    app = runpy.run_path("examples/space/app.py")["app"]
    app.launch(prevent_thread_lock=True, quiet=True)
    try:
        found: dict[str, str] = {}
        exec(block.replace("http://127.0.0.1:7860", app.local_url), found)
    finally:
        app.close(verbose=False)
    assert "blue star" in found["html"]
    assert Path(found["csv_file"]).read_text(encoding="utf-8").startswith("image,prompt,rank,label,score")
