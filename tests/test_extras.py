"""What is said where an optional package is missing: one sentence, before anything is computed."""

import sys

import pytest

from hf_sharp_prompt.__main__ import run
from hf_sharp_prompt.extras import check_installed


@pytest.mark.parametrize(
    ("protocol", "package", "extra"),
    [("detection", "scipy", "dense"), ("detection", "pycocotools", "dense"), ("base2novel", "matplotlib", "plots")],
)
def test_a_protocol_says_what_is_not_installed(protocol, package, extra, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    sentence = (
        f'sharp-prompt {protocol} needs {package}, which is not installed; pip install "hf-sharp-prompt.{extra}."'
    )
    with pytest.raises(ValueError, match=sentence):
        run([protocol, "--output_dir", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_what_is_installed_is_passed_over():
    check_installed("This test", {"test": ["pytest", "json"], "none": []})
