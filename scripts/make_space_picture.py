"""Take the picture of the demo's Space: `python scripts/make_space_picture.py`, with the extras `space` and `browser`.

It needs a Chromium, such as the package `chromium` of Debian.
"""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

from hf_sharp_prompt.space import open_space


ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "space.png"

SIZE = {"width": 1080, "height": 960}

EXAMPLE = 4
"""The place of an image whose colour the hand-written prompt does not see."""


def main() -> None:
    """Pick an image on the page, and save what is seen."""
    app = open_space(ROOT / "examples" / "space")
    app.launch(prevent_thread_lock=True, quiet=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(app.local_url)
        page.locator(".gallery button, button.gallery-item").nth(EXAMPLE).click()
        page.locator(".heat-bars").wait_for()
        page.mouse.move(0, 0)
        page.wait_for_timeout(1000)  # until nothing fades any more
        page.screenshot(path=PICTURE)
        browser.close()
    app.close(verbose=False)


if __name__ == "__main__":
    main()
