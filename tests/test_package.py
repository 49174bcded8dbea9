"""What a package index and a citing reader are told, and what is built, agree with the code."""

from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import hf_sharp_prompt


ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def setup() -> ConfigParser:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup


def test_the_version_stands_in_one_place(setup):
    """A second place would be forgotten at the next release."""
    assert setup["metadata"]["version"] == "attr: hf_sharp_prompt.version.__version__"
    assert "version" not in yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_changelog_tells_of_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert hf_sharp_prompt.__version__ in text


def test_every_requirement_has_a_lower_bound(setup):
    """Without one, `.ci/bounds lowest` installs the first release that there ever was."""
    lines = setup["options"]["install_requires"].splitlines()
    lines += [line for extra in setup["options.extras_require"].values() for line in extra.splitlines()]
    requirements = [Requirement(line) for line in lines if line]
    assert len(requirements) > 20
    unbounded = [each.name for each in requirements if not any(part.operator == ">=" for part in each.specifier)]
    assert not unbounded


@pytest.mark.parametrize("library", ["transformers", "datasets", "accelerate", "peft"])
def test_what_is_reached_into_has_an_upper_bound(library, setup):
    """A release that changes a private part would give wrong numbers without a word."""
    lines = setup["options"]["install_requires"].split()
    (requirement,) = [each for each in map(Requirement, lines) if each.name == library]
    assert any(part.operator == "<" for part in requirement.specifier)
