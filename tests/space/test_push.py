"""What is not pushed, and what happens when the Hub refuses or fails."""

import shutil

import pytest

from hf_sharp_prompt.demo import CLIP_PATH
from hf_sharp_prompt.space.push import push_space
from hf_sharp_prompt.training.push import PushError


CREATION, COMMIT = "POST /api/repos/create", "POST /api/spaces/.*/commit/"


@pytest.mark.parametrize("request_", [CREATION, COMMIT])
def test_a_hub_that_fails_for_a_while_is_asked_again(request_, hub, space):
    hub.fail(request_, 503, times=2)
    push_space(space, "prompts")
    assert "app.py" in hub.files("spaces/me/prompts")


@pytest.mark.parametrize(
    ("request_", "status"), [(CREATION, 401), (CREATION, 403), (COMMIT, 403), (COMMIT, 404), (COMMIT, 500)]
)
def test_a_refusal_is_one_sentence_and_the_next_try_succeeds(request_, status, hub, space):
    hub.fail(request_, status, times=50 if status == 500 else 1)
    sentence = f"The Space prompts was not pushed: the Hub answered {status} .*The same command tries again."
    with pytest.raises(PushError, match=sentence) as error:
        push_space(space, "prompts")
    assert hub.token not in str(error.value)
    hub.failures.clear()
    push_space(space, "prompts")
    assert "app.py" in hub.files("spaces/me/prompts")


def test_no_token_is_pushed_wherever_it_stands(hub, space, tmp_path):
    """A person writes one into `requirements.txt`, to install a private package."""
    for number, token in enumerate((hub.token, "hf_" + "a" * 34)):
        folder = shutil.copytree(space, tmp_path / str(number))
        (folder / "requirements.txt").write_text(f"mine @ https://{token}@example.org/mine.whl")
        with pytest.raises(
            ValueError, match=r"requirements.txt of the Space would hold a token; nothing was"
        ) as error:
            push_space(folder, "prompts")
        assert token not in str(error.value)
    assert not hub.repositories


def test_a_base_model_that_a_space_cannot_read_is_not_pushed(hub, space, tmp_path):
    folder = shutil.copytree(space, tmp_path / "space")
    (folder / "space.yaml").write_text(f"model: {CLIP_PATH}\ntemplate: a {{}}")
    with pytest.raises(ValueError, match="is a directory of this machine, which a Space cannot read; push the model"):
        push_space(folder, "prompts")
    assert not hub.repositories
