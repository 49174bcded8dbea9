"""The page of the demo as programs use it, through Gradio's own client: what is asked and answered goes over HTTP."""

import csv
import runpy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError


NAMES = "black heart\nblue star\ngreen moon"
HAND_WRITTEN = "a photo of a {}."


@pytest.fixture(scope="module")
def client(space: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of `python examples/space/app.py`, started in another directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        patch.setenv("NO_PROXY", "*")
        app = runpy.run_path(str(space / "app.py"))["app"]
        app.launch(prevent_thread_lock=True, quiet=True)
        try:
            yield Client(app.local_url, verbose=False, analytics_enabled=False)
        finally:
            app.close(verbose=False)


@pytest.fixture
def ask(client: Client) -> Callable[..., Any]:
    """Asks `compare` or `predict`, with the settings of this module where nothing else is said."""

    def ask(name: str, images: Any, **changed: Any) -> Any:
        question = {"names": NAMES, "written": HAND_WRITTEN, "learned": ["coop", "gcscoop"], **changed}
        return client.predict(images, *question.values(), api_name=f"/{name}")

    return ask


def test_prompts_stand_side_by_side(ask, space):
    drawn = ask("compare", handle_file(space / "images" / "black_heart.png"))
    assert drawn.count("<tr>") == 4
    heads = drawn[drawn.index("<thead>") : drawn.index("</thead>")]
    assert heads.index("hand-written") < heads.index("coop") < heads.index("gcscoop")
    assert "a photo of a {}." in heads


def test_prompts_are_chosen_and_classes_typed_between_commas(ask, space):
    image = handle_file(space / "images" / "black_heart.png")
    drawn = ask("compare", image, names="black heart, blue star", learned=[])
    assert drawn.count("<tr>") == 3
    assert "coop" not in drawn


def test_many_images_become_csv_and_what_cannot_be_read_is_said(ask, space, tmp_path):
    (tmp_path / "more").mkdir()
    paths = [space / "images" / "black_heart.png", tmp_path / "broken.png", tmp_path / "more" / "black_heart.png"]
    paths[1].write_bytes(b"no image")
    shutil.copy(space / "images" / "blue_star.png", paths[2])
    written, said = ask("predict", [handle_file(path) for path in paths])
    header, *rows = csv.reader(Path(written).read_text(encoding="utf-8").splitlines())
    assert header == ["image", "prompt", "rank", "label", "score"]
    assert len(rows) == 2 * 3 * 3, "two images, three prompts, three classes"
    assert {row[0] for row in rows} == {"black_heart.png"}, "both are called so"
    best = [row[3] for row in rows if row[1:3] == ["coop", "1"]]
    assert best == ["black heart", "blue star"]
    assert said.startswith("2 images.\nThe image broken.png cannot be decoded")
    assert str(tmp_path) not in said


def test_what_is_wrong_is_said_as_text(ask, space):
    """Gradio takes messages for HTML."""
    image = handle_file(space / "images" / "black_heart.png")
    with pytest.raises(AppError, match=r"Classification needs at least two classes, got \[.*&lt;b&gt;one"):
        ask("compare", image, names="<b>one")
    with pytest.raises(AppError, match=r"template must contain {} exactly once"):
        ask("compare", image, written="a photo")
    with pytest.raises(AppError, match=r"There are no images; drop some\."):
        ask("predict", [])


def test_without_an_image_the_page_says_what_to_do(ask):
    assert "Drop an image" in ask("compare", None)


def test_only_prompts_that_there_are_can_be_asked(ask, space):
    with pytest.raises(AppError):
        ask("compare", handle_file(space / "images" / "black_heart.png"), learned=["../../secret"])
