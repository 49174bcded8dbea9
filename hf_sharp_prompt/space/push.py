"""Put a Space's folder on the Hub."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import HfApi, get_token

from ..hub import WAITS, ask_again, what_the_hub_said
from ..training.push import PushError
from .folder import ADAPTERS, DEMO, IMAGES, SETTINGS, Settings


TOKEN = re.compile(rb"hf_[A-Za-z0-9]{20,}")
"""How the Hub's tokens look."""


def push_space(folder: Path, repo_id: str, private: bool = False) -> str:
    """Create a Space, or find the one of this name, and upload its folder.

    Args:
        folder: The folder. Adapters and images that the Space has and the folder has not are removed from the Space.
        repo_id: The Space's name, `NAME` or `OWNER/NAME`.
        private: Whether only its owner sees a new Space.

    Returns:
        The Space's address.

    Raises:
        ValueError: The base model is a directory of this machine, or a file holds a token; nothing was pushed.
        PushError: The Hub refuses, or still fails after further attempts.
    """
    check_is_public(folder)
    api = HfApi()
    try:
        url = ask_again(
            lambda: api.create_repo(repo_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True),
            f"Creating the Space {repo_id}",
        )
        ask_again(
            lambda: api.upload_folder(
                repo_id=url.repo_id,
                repo_type="space",
                folder_path=folder,
                commit_message="Compare prompts",
                delete_patterns=[f"{ADAPTERS}/*", f"{IMAGES}/*"],
            ),
            f"Pushing to the Space {url.repo_id}",
            WAITS[-1:],  # the client itself tries a commit several times
        )
    except Exception as error:
        raise PushError(
            f"The Space {repo_id} was not pushed: {what_the_hub_said(error)}. The same command tries again."
        ) from error
    return str(url)


def check_is_public(folder: Path) -> None:
    """Check that a Space can run elsewhere, and that no file of it holds a token.

    Raises:
        ValueError: It cannot, or one does.
    """
    model = Settings.read(folder / SETTINGS).model
    if model != DEMO and Path(model).expanduser().exists():
        raise ValueError(
            f"The base model {model} is a directory of this machine, which a Space cannot read; push the model and "
            "name its Hub id with --model."
        )
    own = (get_token() or "").encode()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if TOKEN.search(content) or (own and own in content):
            raise ValueError(f"{path.relative_to(folder)} of the Space would hold a token; nothing was pushed.")
