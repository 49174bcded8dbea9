"""Adapters on the Hub: pushed when their run has ended, and once more at the end where that failed."""

from __future__ import annotations

import functools
import logging
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalTokenNotFoundError

from ..cards import CARD_NAME, CURVE_NAME, PICTURE_NAME, make_public
from ..hub import WAITS, ask_again, is_temporary, what_the_hub_said
from ..training.arguments import SharpPromptTrainingArguments
from .results import ADAPTER_FILES, checksums, read_json, write_json


logger = logging.getLogger(__name__)

PUSHED_NAME = "_pushed.json"
COLLECTION_TAG = "prompt-collection"
"""The tag in the card of a repository that holds several adapters."""
LONGEST_NAME = 96  # Characters of a repository's name.


@dataclass
class Publication:
    """A run's adapter and the repository that it goes to.

    Args:
        directory: The run's directory.
        repository: The repository's id.
        token: A token of the Hub; by default the environment's.
        private: Whether a new repository is private; by default as the namespace's settings say.
        subfolder: The folder of the repository that the adapter goes into; by default its top.

    Attributes:
        failure: Why the last push failed; None if it did not.
    """

    directory: Path
    repository: str
    token: str | None = field(default=None, repr=False)
    private: bool | None = None
    subfolder: str | None = None
    failure: str | None = None

    @property
    def place(self) -> str:
        """The repository and the folder in it."""
        return "/".join(filter(None, (self.repository, self.subfolder)))

    @property
    def is_pushed(self) -> bool:
        """Whether this very adapter is in its place."""
        pushed = read_json(self.directory / PUSHED_NAME)
        return pushed is not None and pushed == self._adapter_there()

    def _adapter_there(self) -> dict[str, Any]:
        """What is kept of a push: the adapter and its place."""
        there: dict[str, Any] = {"repository": self.repository, "files": checksums(self.directory)}
        return there | ({"subfolder": self.subfolder} if self.subfolder else {})

    def push(self, waits: tuple[float, ...] = WAITS) -> None:
        """Push the adapter and its card, unless this very adapter is there already."""
        self.failure = None
        if self.is_pushed:
            return
        api = HfApi(token=self.token)
        what = f"Pushing {self.directory} to {self.place}"
        try:
            url = ask_again(lambda: api.create_repo(self.repository, private=self.private, exist_ok=True), what, waits)
            with tempfile.TemporaryDirectory() as staging:
                copy_published(self.directory, Path(staging))
                commit = "Add prompts trained with hf_sharp_prompt"
                ask_again(
                    lambda: api.upload_folder(
                        repo_id=url.repo_id,
                        folder_path=staging,
                        commit_message=commit,
                        path_in_repo=self.subfolder,
                    ),
                    what,
                    waits,
                )
        except Exception as error:
            self.failure = what_the_hub_said(error)
            logger.warning(f"{what} failed: {self.failure}. The run is finished nevertheless.")
            return
        write_json(self.directory / PUSHED_NAME, self._adapter_there())


def copy_published(directory: Path, target: Path) -> None:
    """Copy what is published, the adapter, its card and the card's pictures, without what is private."""
    for name in (*ADAPTER_FILES, CARD_NAME, PICTURE_NAME, CURVE_NAME):
        if (directory / name).is_file():
            (target / name).write_bytes((directory / name).read_bytes())
    make_public(target)


def name_repository(training: SharpPromptTrainingArguments, *parts: str) -> str:
    """The id of a run's repository: `hub_model_id`, by default "prompts" of the token's user, and the run's names.

    Raises:
        ValueError: There is no token, or the Hub refuses it.
    """
    name = "-".join([training.hub_model_id or "prompts", *parts])
    owner, _, name = name.rpartition("/")
    name = re.sub(r"[-.]{2,}", "-", re.sub(r"[^A-Za-z0-9._-]+", "-", name))[:LONGEST_NAME].strip("-.")
    namespace = owner or find_user(training.hub_token)
    return f"{namespace}/{name}" if namespace else name


def name_folder(*parts: str) -> str:
    """The folder of a repository for a run, of the run's names."""
    names = [re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") for part in parts for name in part.split("/")]
    return "/".join(filter(None, names))


@functools.cache
def find_user(token: str | None) -> str | None:
    """The name of the token's user; None if the Hub cannot be asked now."""
    try:
        return ask_again(lambda: HfApi(token=token).whoami()["name"], "Asking the Hub for the token's user")
    except LocalTokenNotFoundError as error:
        raise ValueError("--push_to_hub needs a token of the Hub; log in with `hf auth login`.") from error
    except Exception as error:
        if isinstance(error, HfHubHTTPError) and not is_temporary(error):
            raise ValueError(
                f"--push_to_hub needs a token that the Hub takes, but {what_the_hub_said(error)}."
            ) from error
        logger.warning(f"The Hub does not say whose the token is: {what_the_hub_said(error)}.")
        return None


def push_index_cards(publications: Sequence[Publication], card: str) -> str | None:
    """Push the card of repositories that hold several adapters to their tops; a card of somebody else's stays.

    Args:
        publications: The adapters.
        card: The card, which does not say in which repository it is.

    Returns:
        What is not pushed, and why; None if nothing is missing.
    """
    missing = []
    for publication in {each.repository: each for each in publications if each.subfolder}.values():
        api, what = HfApi(token=publication.token), f"Pushing the card of {publication.repository}"
        try:
            ask_again(partial(_push_card, api, publication.repository, card), what)
        except Exception as error:
            missing.append(f"the card of {publication.repository}: {what_the_hub_said(error)}")
    return "; ".join(missing) or None


def _push_card(api: HfApi, repository: str, card: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = api.hf_hub_download(repository, CARD_NAME, local_dir=folder, force_download=True)
            if COLLECTION_TAG not in Path(path).read_text(encoding="utf-8"):
                return
        except EntryNotFoundError:
            pass
        staged = Path(folder, "staged")
        staged.mkdir()
        (staged / CARD_NAME).write_text(card, encoding="utf-8")
        make_public(staged)
        api.upload_folder(repo_id=repository, folder_path=staged, commit_message="Say what is in the folders")


def push_missing(publications: Sequence[Publication]) -> list[str]:
    """Try once more what could not be pushed.

    Returns:
        What is still not pushed, and why.
    """
    for publication in publications:
        if publication.failure is not None:
            publication.push(waits=())
    return [f"{each.directory} to {each.place}: {each.failure}" for each in publications if each.failure]
