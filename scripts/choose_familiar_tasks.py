"""Choose the tasks of the demo's suite `familiar` by the accuracy of zero-shot CLIP alone.

The rule was fixed before any candidate was measured, and no method that learns is run:

- The candidates are the five vocabularies of `hf_sharp_prompt.demo.tasks` in each of the eight styles that
  pre-training shows. In the order of the candidates, the next one has the next vocabulary and the next style, starting
  again after the last, so that kinds of classes and styles alternate.
- A candidate fits if the hand-written prompt's harmonic mean of base and novel accuracy on the validation split is
  from 52 to 83 percent: two points inside the band from 50 to 85, so that the test split is in the band as well.
- The first eight candidates that fit are taken, of each vocabulary and of each style at most two. If these are fewer
  than eight, the rest is gone through again with a limit of three, and so on.

`python scripts/choose_familiar_tasks.py` measures all candidates in a few minutes, and prints the table of
docs/familiar.md.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import harmonic_mean

import torch
from torch.nn.functional import normalize
from transformers import AutoProcessor, CLIPModel, CLIPProcessor

from hf_sharp_prompt.demo import CLIP_PATH, Task
from hf_sharp_prompt.demo.styles import SEEN_STYLES
from hf_sharp_prompt.demo.tasks import (
    COLOUR_SHAPE,
    COLOUR_TEXTURE_SHAPE,
    TEXTURE_COLOUR,
    TEXTURE_COLOUR_SHAPE,
    TEXTURE_SHAPE,
)


VOCABULARIES = (TEXTURE_SHAPE, COLOUR_SHAPE, TEXTURE_COLOUR_SHAPE, TEXTURE_COLOUR, COLOUR_TEXTURE_SHAPE)
NUMBER_OF_TASKS = 8
LOWEST, HIGHEST = 0.52, 0.83
FIRST_SEED = 101


def list_candidates() -> list[Task]:
    """List every vocabulary in every seen style, in the order of the rule."""
    styles, candidates = tuple(SEEN_STYLES), []
    for number in range(len(VOCABULARIES) * len(styles)):  # 5 and 8 have no common divisor: no pair comes twice.
        vocabulary, style = VOCABULARIES[number % len(VOCABULARIES)], styles[number % len(styles)]
        candidates.append(vocabulary.task(style, f"in the style {style}", FIRST_SEED + number))
    return candidates


@dataclass(frozen=True)
class Accuracy:
    """The accuracy on each half of the classes, among the names of that half."""

    base: float
    novel: float

    @property
    def harmonic_mean(self) -> float:
        return harmonic_mean([self.base, self.novel])

    def __str__(self) -> str:
        return " | ".join(f"{100 * value:.1f}" for value in (self.base, self.novel, self.harmonic_mean))


def choose(candidates: list[Task], harmonic_means: Mapping[str, float]) -> list[Task]:
    """Choose tasks by the rule; `harmonic_means` has each candidate's on its validation split, by its name."""
    fitting = [task for task in candidates if LOWEST <= harmonic_means[task.name] <= HIGHEST]
    number = min(NUMBER_OF_TASKS, len(fitting))
    chosen: list[Task] = []
    limit = 2
    while len(chosen) < number:
        for task in fitting:
            taken = Counter(word for other in chosen for word in (other.kinds, other.style))
            if task not in chosen and len(chosen) < number and max(taken[task.kinds], taken[task.style]) < limit:
                chosen.append(task)
        limit += 1
    return chosen


@torch.no_grad()
def measure_zero_shot(
    task: Task, split: str, clip: CLIPModel, processor: CLIPProcessor, per_class: int | None = None
) -> Accuracy:
    """Measure a task's hand-written prompt on the first images of each class, by default on all images."""
    images, numbers = task.images(split, per_class)
    texts = [task.template.format(name) for name in task.classes]
    tokens = processor.tokenizer(texts, padding=True, return_tensors="pt")
    names = normalize(clip.get_text_features(**tokens).pooler_output, dim=-1)
    features = []
    for start in range(0, len(images), 256):
        batch = processor.image_processor(list(images[start : start + 256]), return_tensors="pt")
        features.append(clip.get_image_features(**batch).pooler_output)
    scores, labels = torch.cat(features) @ names.T, torch.tensor(numbers)
    half = (len(task.classes) + 1) // 2
    base = labels < half
    return Accuracy(
        base=(scores[base, :half].argmax(1) == labels[base]).float().mean().item(),
        novel=(scores[~base, half:].argmax(1) == labels[~base] - half).float().mean().item(),
    )


def main() -> None:
    clip, processor = CLIPModel.from_pretrained(CLIP_PATH).eval(), AutoProcessor.from_pretrained(CLIP_PATH)
    candidates = list_candidates()
    measured = {task.name: measure_zero_shot(task, "validation", clip, processor) for task in candidates}
    chosen = choose(candidates, {name: accuracy.harmonic_mean for name, accuracy in measured.items()})
    print("| candidate | classes | validation: base | novel | HM | test: base | novel | HM | |")
    print("|---|---|---|---|---|---|---|---|---|")
    for task in candidates:
        test = measure_zero_shot(task, "test", clip, processor)
        verdict = "taken" if task in chosen else ""
        print(f"| `{task.name}` | {len(task.classes)} | {measured[task.name]} | {test} | {verdict} |", flush=True)


if __name__ == "__main__":
    main()
