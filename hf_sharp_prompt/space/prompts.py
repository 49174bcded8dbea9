"""Hand-written and learned prompts, asked the same question on one base model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from peft import PeftModel
from transformers import AutoImageProcessor, AutoTokenizer

from ..data import ImageCollator
from ..inference.classifier import read_pixels
from ..inference.in_order import ReadExamples, Unread
from ..inference.loading import has_fixed_classes, load_base, read_config, task_of
from ..tuners import CLIPPromptConfig
from ..tuners.prompt_layer import BASE


HAND_WRITTEN = "hand-written"
"""The name of the prompt that is no adapter's."""

BATCH_SIZE = 32
"""How many images the model takes at a time."""

MOST_CLASSES = 1000
"""The most classes of a question: on a public page, anybody asks."""


@dataclass(frozen=True)
class Answer:
    """What one prompt says about images.

    Args:
        prompt: The prompt's name.
        method: The template of a hand-written prompt, or the design of a learned one.
        probabilities: images × classes.
    """

    prompt: str
    method: str
    probabilities: torch.Tensor


class ComparedPrompts:
    """Learned prompts of one CLIP, and the prompts that people write for it.

    A question changes nothing on the model, so that any number of threads can ask.

    Args:
        adapters: The learned prompts: name → directory or Hub id.
        base: The base model's directory or Hub id.

    Raises:
        FileNotFoundError: There is no such adapter.
        ValueError: An adapter is damaged, does not fit the base model, or cannot be asked for any classes; or the base
            model cannot be loaded.
    """

    def __init__(self, adapters: Mapping[str, str | Path], base: str) -> None:
        self.configs = {name: read_config_of_prompts(str(adapter)) for name, adapter in adapters.items()}
        # PEFT allows no dots in an adapter's name.
        self._adapters = {name: f"prompt_{number}" for number, name in enumerate(adapters)}
        (first, config), *others = self.configs.items()
        try:
            bare = load_base(base, config)
            self._collator = ImageCollator(AutoImageProcessor.from_pretrained(base))
            self._tokenizer = AutoTokenizer.from_pretrained(base)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"The base model {base} cannot be loaded; give the directory or Hub id of the model that the adapters "
                f"were made for. ({' '.join(str(error).split())})"
            ) from error
        # PEFT forwards what a tuner has, unseen by type checkers.
        self._model: Any = PeftModel.from_pretrained(bare, adapters[first], self._adapters[first], config=config)
        for name, _ in others:
            self._model.load_adapter(adapters[name], self._adapters[name])
        self._device = PartialState().device
        self._model.eval().to(self._device)

    @property
    def names(self) -> list[str]:
        """The names of the learned prompts."""
        return list(self.configs)

    def read(self, paths: Sequence[str | Path]) -> list[torch.Tensor | Unread]:
        """Read image files: each one's pixel values, or why it cannot be read."""
        examples = ReadExamples(paths, self._read_file)
        return [examples[index] for index in range(len(paths))]

    @torch.no_grad()
    def compare(
        self,
        images: Sequence[torch.Tensor],
        class_names: Sequence[str],
        template: str,
        learned: Sequence[str],
        progress: Callable[[int, int], object] = lambda done, total: None,
    ) -> list[Answer]:
        """Ask a hand-written prompt, and learned ones, which classes images show.

        Args:
            images: Pixel values, each channels × height × width; at least one.
            class_names: The classes, at least two.
            template: The hand-written prompt; its one `{}` is the name of a class.
            learned: The names of the learned prompts to ask.
            progress: Is told the number of answers so far, and of all: one for each image and prompt.

        Returns:
            The answer of the hand-written prompt, then those of the learned ones.

        Raises:
            ValueError: Class names or a template that cannot be asked for; a learned prompt that there is not.
        """
        if len(class_names) > MOST_CLASSES:
            raise ValueError(f"At most {MOST_CLASSES} classes are compared, got {len(class_names)}; leave some out.")
        if unknown := [name for name in learned if name not in self.configs]:
            raise ValueError(f"There is no learned prompt {unknown[0]!r}; there are {', '.join(self.names)}.")
        answers: list[Answer] = []
        for name in (HAND_WRITTEN, *learned):
            probabilities = []
            with self._asking(name, class_names, template):
                for start in range(0, len(images), BATCH_SIZE):
                    batch = torch.stack(list(images[start : start + BATCH_SIZE])).to(self._device)
                    probabilities.append(self._model.classify(batch).logits.float().softmax(dim=-1).cpu())
                    done = len(answers) * len(images) + start + len(batch)
                    progress(done, (1 + len(learned)) * len(images))
            method = template if name == HAND_WRITTEN else self.configs[name].get_design().title
            answers.append(Answer(name, method, torch.cat(probabilities)))
        return answers

    def _asking(self, name: str, class_names: Sequence[str], template: str) -> AbstractContextManager[object]:
        """Within the block, and in this thread only, let a prompt classify into these classes."""
        is_learned = name in self.configs
        around = self.configs[name].class_template if is_learned else template
        with ExitStack() as entered:
            entered.enter_context(self._model.using_adapter(self._adapters[name] if is_learned else BASE))
            entered.enter_context(self._model.using_classes(class_names, self._tokenizer, around))
            entered.enter_context(self._model.keeping_class_features())
            return entered.pop_all()

    def _read_file(self, path: str | Path) -> torch.Tensor:
        """Read an image file. Errors name it without its folder, which nobody who opens the page need know."""
        file = Path(path)
        return read_pixels(self._collator, {"path": file.name, "bytes": file.read_bytes()})


def read_config_of_prompts(adapter: str) -> CLIPPromptConfig:
    """Read the config of an adapter that can be asked for any classes.

    Raises:
        FileNotFoundError: There is no adapter.
        ValueError: It is damaged, or has classes or a task of its own.
    """
    config = read_config(adapter)
    if not isinstance(config, CLIPPromptConfig) or has_fixed_classes(config):
        raise ValueError(
            f"{adapter} has learned something for each of its own classes and cannot be asked for others, as the page "
            "does; use `sharp-prompt predict` with it."
        )
    if (task := task_of(config)) != "image-classification":
        raise ValueError(
            f"{adapter} is for the task {task!r}, but the page classifies images; use `sharp-prompt predict` with it."
        )
    return config
