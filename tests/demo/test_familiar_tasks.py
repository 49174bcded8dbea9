"""The suite `familiar` was chosen by a rule that anyone can run again, and zero-shot CLIP is good at it."""

from collections import Counter
from dataclasses import replace

import pytest
from choose_familiar_tasks import Accuracy, choose, list_candidates, measure_zero_shot
from transformers import AutoProcessor, CLIPModel

from hf_sharp_prompt.demo import CLIP_PATH, FAMILIAR_TASKS, LONG_TAIL_TASK, UNFAMILIAR_TASKS
from hf_sharp_prompt.demo.styles import SEEN_STYLES
from hf_sharp_prompt.demo.tasks import IMAGES_PER_CLASS


CANDIDATES = list_candidates()
NAMES = [task.name for task in CANDIDATES]


def test_every_kind_of_classes_is_a_candidate_in_every_seen_style():
    assert len({*NAMES}) == len(CANDIDATES) == 5 * len(SEEN_STYLES)
    assert Counter(task.style for task in CANDIDATES) == dict.fromkeys(SEEN_STYLES, 5)


def test_a_frozen_task_is_the_candidate_of_its_name():
    """Words, seed and template are those that were measured; the description alone was written afterwards."""
    candidates = {task.name: task for task in CANDIDATES}
    for name, task in FAMILIAR_TASKS.items():
        assert replace(candidates[name], description=task.description) == task
    assert [name for name in NAMES if name in FAMILIAR_TASKS] == list(FAMILIAR_TASKS)


def test_the_suite_has_three_word_classes_and_spreads_kinds_and_styles():
    kinds = Counter(task.kinds for task in FAMILIAR_TASKS.values())
    styles = Counter(task.style for task in FAMILIAR_TASKS.values())
    assert max(kinds.values()) <= 2
    assert max(styles.values()) <= 2
    assert sum(count for words, count in kinds.items() if len(words) == 3) >= 2


def test_its_images_are_in_no_other_suite():
    others = {task.seed for task in [*UNFAMILIAR_TASKS.values(), LONG_TAIL_TASK]}
    assert others.isdisjoint(task.seed for task in CANDIDATES)
    assert all(task.images_per_class == IMAGES_PER_CLASS for task in FAMILIAR_TASKS.values())


@pytest.mark.parametrize("task", FAMILIAR_TASKS.values(), ids=FAMILIAR_TASKS.keys())
def test_each_half_of_the_classes_has_choices_of_every_kind(task):
    """A word that all classes of a half share would tell nothing."""
    half = len(task.classes) // 2
    for classes in (task.classes[:half], task.classes[half:]):
        assert all(len({*words}) > 1 for words in zip(*(name.split() for name in classes)))


def test_the_first_candidates_that_fit_are_chosen_with_two_at_most_of_a_kind_and_style():
    assert [task.name for task in choose(CANDIDATES, dict.fromkeys(NAMES, 0.6))] == NAMES[:8]
    assert not choose(CANDIDATES, dict.fromkeys(NAMES, 0.51) | {NAMES[0]: 0.84})
    without_a_kind = {task.name: 0.9 if task.kinds == ("colour", "shape") else 0.6 for task in CANDIDATES}
    chosen = choose(CANDIDATES, without_a_kind)
    assert {*Counter(task.kinds for task in chosen).values()} == {2}
    assert max(Counter(task.style for task in chosen).values()) <= 2


def test_where_too_few_fit_the_limit_rises():
    one_style = {task.name: 0.6 if task.style == "photo" else 0.4 for task in CANDIDATES}
    assert [task.style for task in choose(CANDIDATES, one_style)] == ["photo"] * 5


def test_a_mean_is_harmonic_and_in_percent():
    assert str(Accuracy(base=0.5, novel=0.75)) == "50.0 | 75.0 | 60.0"


def test_zero_shot_clip_is_good_at_a_familiar_task():
    """It would be near 45 % on a task of the first suite."""
    clip, processor = CLIPModel.from_pretrained(CLIP_PATH).eval(), AutoProcessor.from_pretrained(CLIP_PATH)
    task = next(iter(FAMILIAR_TASKS.values()))
    accuracy = measure_zero_shot(task, "test", clip, processor, per_class=6)
    assert 0.5 <= accuracy.harmonic_mean <= 0.85
