"""The page of the demo as people use it, in Chromium without a window.

Gradio's own front end decides what becomes of what the app answers: whether names stay text, whether the page needs
the internet, whether a file can be dropped. `python -m pytest -m browser -n 0` runs this file; it needs Debian's or
another Chromium, and `pip install -e ".[browser]"`.
"""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hf_sharp_prompt.space.heat_bars import MOST_ROWS


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; install your system's package chromium"),
]

DROP = """([target, name, content]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(content)], name, {type: "image/png"}));
    target.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
}"""


@pytest.fixture(scope="module")
def address(space: Path) -> Iterator[str]:
    """Where the page is served."""
    from hf_sharp_prompt.space import open_space

    app = open_space(space)
    app.launch(prevent_thread_lock=True, quiet=True)
    yield app.local_url
    app.close(verbose=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    reason = 'playwright is not installed; pip install -e ".[browser]"'
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, just opened. In the end it must have asked no other host, and have run no script of a name's."""
    page = browser.new_page()
    page.set_default_timeout(60_000)  # on a busy machine
    requested, dialogs = [], []
    page.on("request", lambda request: requested.append(request.url))
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(address)
    page.get_by_role("button", name="Compare").wait_for()
    yield page
    page.close()
    assert not [url for url in requested if not url.startswith((address, "data:", "blob:"))]
    assert not dialogs


def heads(page: Any) -> list[str]:
    """Wait for the table, and return the names of its prompts."""
    page.locator(".heat-bars").wait_for()
    return [text.splitlines()[0] for text in page.locator(".heat-bars thead th").all_inner_texts()[1:]]


def test_an_image_is_picked_and_prompts_are_chosen(page):
    page.locator(".gallery button, button.gallery-item").first.click()
    assert heads(page) == ["hand-written", "coop", "gcscoop"]
    assert page.locator(".heat-bars tbody tr").count() == MOST_ROWS
    widest = page.locator(".heat-bars .bar").first.bounding_box()
    assert widest["width"] > 20, "the bar of the most probable class is seen"
    page.get_by_label("gcscoop").uncheck()
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("columnheader", name="gcscoop").wait_for(state="detached")
    assert heads(page) == ["hand-written", "coop"]


def test_an_image_is_dropped_and_names_stay_text(page, space):
    names = ["<img src=x onerror=alert(1)>", "${alert(2)}", "{{alert(3)}}", "black heart"]
    page.get_by_label("Classes, one on each line").fill("\n".join(names))
    content = list((space / "images" / "black_heart.png").read_bytes())
    target = page.get_by_role("button", name="Drop an image file here to upload").element_handle()
    page.evaluate(DROP, [target, "heart.png", content])
    assert heads(page) == ["hand-written", "coop", "gcscoop"]
    assert {*page.locator(".heat-bars tbody th").all_inner_texts()} == {*names}


def test_what_is_wrong_is_shown_as_text(page):
    page.get_by_label("Classes, one on each line").fill("<img src=x onerror=alert(1)>")
    page.locator(".gallery button, button.gallery-item").first.click()
    said = page.get_by_test_id("toast-text")
    said.wait_for()
    assert said.inner_text() == "Classification needs at least two classes, got ['<img src=x onerror=alert(1)>']."


def test_many_images_are_dropped_and_csv_is_taken(page, space, tmp_path):
    page.get_by_role("tab", name="Many images").click()
    page.locator("input[type=file]:visible, [data-testid=file-upload]").last.set_input_files(
        sorted(map(str, (space / "images").iterdir()))
    )
    page.get_by_text("yellow_triangle").wait_for()
    page.get_by_role("button", name="Write CSV").click()
    link = page.locator("a[download='predictions.csv']")
    link.wait_for()
    with page.expect_download() as download:
        link.click()
    download.value.save_as(tmp_path / "out.csv")
    header, *rows = csv.reader((tmp_path / "out.csv").read_text().splitlines())
    assert header == ["image", "prompt", "rank", "label", "score"]
    assert len(rows) == 6 * 3 * 5, "six images, three prompts, the five most probable classes"
