"""What chooses the setting and the hyperparameters."""

import pytest

from hf_sharp_prompt.study.choices import Tried, choose_candidate, choose_setting
from hf_sharp_prompt.study.plan import Setting


def tried(base, novel, shots=4, epochs=60):
    return Tried(Setting(shots, 8, 0.05, epochs), base, novel)


RISES_AND_FALLS = [60.0, 62.0, 61.0]


def test_the_setting_whose_novel_accuracy_falls_most_is_chosen():
    little, much = tried(RISES_AND_FALLS, [62, 61.9, 61]), tried(RISES_AND_FALLS, [62, 61, 58], epochs=61)
    assert choose_setting([little, much]) == much.setting


@pytest.mark.parametrize("base", [[60, 60.9, 60], [60, 62, 61.6]], ids=["does not rise", "does not fall"])
def test_base_accuracy_has_to_rise_and_to_fall(base):
    shows, does_not = tried(RISES_AND_FALLS, [62, 61, 61]), tried(base, [62, 60, 50], epochs=61)
    assert choose_setting([does_not, shows]) == shows.setting


def test_of_equal_falls_the_shortest_training_is_chosen_and_then_the_largest_fall():
    long, short = tried(RISES_AND_FALLS, [62, 61, 58.0]), tried(RISES_AND_FALLS, [62, 61, 58.4], epochs=30)
    shorter_still = tried(RISES_AND_FALLS, [62, 61, 58.6], epochs=10)
    assert choose_setting([long, short, shorter_still]) == short.setting
    larger = tried(RISES_AND_FALLS, [62, 61, 58.1], epochs=30)
    assert choose_setting([long, short, larger]) == larger.setting


def test_where_base_never_falls_the_rise_counts_alone():
    only_rises = tried([60, 61, 62], [62, 61, 60])
    assert choose_setting([only_rises]) == only_rises.setting


def test_no_setting_is_chosen_where_nothing_is_learned():
    with pytest.raises(ValueError, match="In no setting does base accuracy rise"):
        choose_setting([tried([60, 60, 60], [62, 61, 60])])


def test_the_first_of_equal_candidates_is_chosen():
    assert choose_candidate({0.1: 61.0, 0.2: 63.0, 0.5: 63.0}) == 0.2
