"""A hyperparameter that was renamed is still understood under its former name."""

import pytest

from hf_sharp_prompt import objectives, sharpness


@pytest.mark.parametrize(
    ("create", "name", "now"),
    [
        (sharpness.create, "fsam", "decay"),
        (sharpness.create, "sample", "decay"),
        (objectives.create, "prograd", "weight"),
    ],
)
def test_recipes_that_say_lmbda_still_run(create, name, now):
    assert getattr(create(name, lmbda=0.25), now) == 0.25
    assert create(name, lmbda=0.25) == create(name, **{now: 0.25})
    with pytest.raises(ValueError, match=f"{name}: lmbda is the former name of {now}; drop lmbda"):
        create(name, **{"lmbda": 0.25, now: 0.5})


def test_other_members_do_not_take_the_former_name():
    with pytest.raises(ValueError, match="sam has no hyperparameter 'lmbda'"):
        sharpness.create("sam", lmbda=0.9)
