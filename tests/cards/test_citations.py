"""Whoever uses an adapter can cite the papers of its methods."""

import re

import pytest

from hf_sharp_prompt.cards import Paper, paper_in
from hf_sharp_prompt.objectives import Objective
from hf_sharp_prompt.sharpness import SharpnessRule


MEMBERS = {**SharpnessRule.registry, **Objective.registry}


@pytest.mark.parametrize("name", sorted(MEMBERS.keys() - {"none"}))
def test_every_rule_and_objective_of_the_package_has_an_entry(name):
    entry = paper_in(MEMBERS[name]).bibtex
    assert re.match(r"@misc\{[a-z]+\d*[a-z]+,\n  author = \{\w+ and others\},\n  title = \{\{[^{}]+\}\},\n", entry), (
        entry
    )


def test_remarks_and_short_names_are_no_part_of_the_citation():
    class Both:
        """What it does.

        Reference:
            Ötz et al., "Both, or: the {first}" (BOTH), ICLR
            2024, https://example.org/a?b=1; the released code's form.

        Related: nothing.
        """

    paper = paper_in(Both)
    assert paper == ('Ötz et al., "Both, or: the {first}", ICLR 2024', "https://example.org/a?b=1")
    assert paper.bibtex.splitlines()[:3] == [
        "@misc{otz2024both,",
        "  author = {Ötz and others},",
        "  title = {{Both, or: the first}},",
    ]
    assert paper_in(dict) is None


def test_an_address_that_is_not_of_the_web_is_no_link():
    assert Paper("A, “B”, 2024", "javascript:alert(1)").link == "A, “B”, 2024"
    assert Paper("A", "https://a.org/x) [y](z").link == "A"
