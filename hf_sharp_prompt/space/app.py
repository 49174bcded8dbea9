"""The page: an image or many, class names, and what hand-written and learned prompts say."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import gradio as gr

from ..experiments.failures import in_one_sentence
from ..inference.in_order import Unread
from .csv_file import write_csv
from .heat_bars import draw_heat_bars
from .prompts import ComparedPrompts


MOST_IMAGES = 1000
"""The most images of a question: on a public page, anybody asks."""

KEPT_SECONDS = 3600
"""How long uploaded images, and what was made of them, are kept."""

MODEL = "model"
"""What events wait for: one at a time asks the model, as two at once would take as long, and twice the memory."""

NO_IMAGE = "<p>Drop an image, or pick one of the examples.</p>"

ABOUT = """# Hand-written and learned prompts
One CLIP classifies images with a prompt that you write, and with prompts that were learned from few images. Learned
prompts take any class names: change them."""


def make_app(
    prompts: ComparedPrompts, class_names: Sequence[str], template: str, images: Sequence[Path] = ()
) -> gr.Blocks:
    """Make the page.

    Args:
        prompts: What answers.
        class_names: The classes that stand there at first.
        template: The hand-written prompt that stands there at first.
        images: Images to pick from.
    """

    def compare(image: str | None, names: str, written: str, learned: list[str]) -> str:
        """Say what one image shows, as HTML: the share of each class by each prompt."""
        with errors_shown():
            if image is None:
                return NO_IMAGE
            (read,) = prompts.read([image])
            if isinstance(read, Unread):
                raise ValueError(read.reason)
            classes = split_names(names)
            return draw_heat_bars(classes, prompts.compare([read], classes, written, learned))

    def predict(
        files: list[str] | None,
        names: str,
        written: str,
        learned: list[str],
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio knows it by its default)
    ) -> Iterator[tuple[str, str]]:
        """Say what many images show: a CSV file, and a text about images that cannot be read."""
        with errors_shown(), tempfile.TemporaryDirectory() as folder:
            if not files:
                raise ValueError("There are no images; drop some.")
            if len(files) > MOST_IMAGES:
                raise ValueError(f"At most {MOST_IMAGES} images are taken at a time, got {len(files)}; drop fewer.")
            read = prompts.read(files)
            if not (pixels := [each for each in read if not isinstance(each, Unread)]):
                raise ValueError("None of the images can be read; drop others.")
            classes, csv_file = split_names(names), Path(folder, "predictions.csv")
            answers = prompts.compare(
                pixels, classes, written, learned, lambda done, total: progress((done, total), unit="answers")
            )
            named = [Path(file).name for file, each in zip(files, read) if not isinstance(each, Unread)]
            write_csv(csv_file, named, classes, answers)
            said = [f"{len(pixels)} images.", *(each.reason for each in read if isinstance(each, Unread))]
            yield str(csv_file), "\n".join(said)  # Gradio keeps a copy

    with gr.Blocks(
        title="Hand-written and learned prompts", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)
    ) as app:
        gr.Markdown(ABOUT)
        with gr.Row():
            names = gr.Textbox("\n".join(class_names), label="Classes, one on each line", lines=5, max_lines=8)
            with gr.Column():
                written = gr.Textbox(template, label="Hand-written prompt; {} is the class")
                learned = gr.CheckboxGroup(prompts.names, value=prompts.names, label="Learned prompts")
        asked = [names, written, learned]
        with gr.Tab("One image"), gr.Row():
            with gr.Column(scale=1):
                image = gr.Image(label="Image", type="filepath", image_mode=None, height=280)
                compare_button = gr.Button("Compare", variant="primary")
                if images:
                    gr.Examples([str(path) for path in images], image, label="Examples")
            with gr.Column(scale=2):
                bars = gr.HTML(NO_IMAGE)
        with gr.Tab("Many images"):
            files = gr.File(label="Images", file_count="multiple", file_types=["image"])
            predict_button = gr.Button("Write CSV", variant="primary")
            csv_file = gr.File(label="Predictions")
            said = gr.Textbox(label="What was read", lines=2)
        gr.on(
            [compare_button.click, image.change],
            compare,
            [image, *asked],
            bars,
            api_name="compare",
            concurrency_id=MODEL,
        )
        predict_button.click(predict, [files, *asked], [csv_file, said], api_name="predict", concurrency_id=MODEL)
    return app


@contextmanager
def errors_shown() -> Iterator[None]:
    """Within the block, let errors about what was typed or dropped be shown on the page, which takes them for HTML."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise gr.Error(html.escape(in_one_sentence(error)), print_exception=False) from error


def split_names(text: str) -> list[str]:
    """Return the class names in a text: one on each line, or, on a single line, between commas."""
    lines = text.strip().splitlines()
    names = lines[0].split(",") if len(lines) == 1 else lines
    return [name.strip() for name in names if name.strip()]
