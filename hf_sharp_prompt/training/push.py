"""Saving what loads and pushing what may be seen: no token, user name, host name or path leaves the machine."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo
from huggingface_hub.errors import RepositoryNotFoundError
from peft import PeftModel
from transformers.trainer_utils import HubStrategy, SaveStrategy
from transformers.utils import PushInProgress
from transformers.utils.hub import hf_api

from ..cards import CARD_NAME, make_public
from ..cards.writing import without_cards
from ..compat.trainer import TrainerHooks
from ..files import written_whole
from ..hub import WAITS, ask_again, what_the_hub_said
from .arguments import SharpPromptTrainingArguments, check_subfolder
from .checkpoint import is_checkpoint


logger = logging.getLogger(__name__)

PROCESSOR_FOLDER = "processor"


class PushError(OSError):
    """Says what could not be pushed, where it is saved, and what the Hub answered."""


class PushingTrainer(TrainerHooks):
    """A Trainer that tries again where the Hub fails for a while, and pushes nothing that is private.

    The repository gets the model, its processor and its card, and with `hub_strategy` "checkpoint" or
    "all_checkpoints" what a run is resumed from. It does not get the training arguments, which hold the token, nor
    logs and whatever else lies in `output_dir`; local paths in its files are cut to their last part.

    When the Hub fails while the Trainer is made or trains, a warning says so and the run goes on; the next push brings
    what is missing. `push_to_hub` raises.
    """

    args: SharpPromptTrainingArguments

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._goes_on_without_hub = True
        super().__init__(*args, **kwargs)
        self._goes_on_without_hub = False

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Create the repository, with further attempts.

        The Trainer's own method takes `private` only from transformers 5.23 on.

        Raises:
            PushError: The repository cannot be created; while the Trainer is made or trains, this is a warning.
        """
        self.push_in_progress = None
        if not self.is_world_process_zero():
            return
        name = self.args.hub_model_id or self.output_directory.absolute().name
        token = self.args.hub_token if token is None else token
        private = self.args.hub_private_repo if private is None else private
        try:
            repository = ask_again(
                lambda: hf_api().create_repo(name, token=token, private=private, exist_ok=True),
                f"Creating {name} on the Hub",
            )
            self.hub_model_id = repository.repo_id  # type: ignore[assignment]  # annotated as None
        except Exception as error:
            message = f"The repository {name} cannot be created: {what_the_hub_said(error)}."
            if not self._goes_on_without_hub:
                raise PushError(f"{message} {self._where_it_is}") from error
            logger.warning(f"{message} Nothing is pushed until it can be; the run goes on.")

    def push_to_hub(  # type: ignore[override]  # the Trainer's annotation lacks its futures and None
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        subfolder: str | None = None,
        **kwargs: Any,
    ) -> CommitInfo | Future[CommitInfo] | None:
        """Save the model in `output_dir`, then push it with its processor and card.

        Args:
            commit_message: The commit's title.
            blocking: Whether to wait until it is pushed.
            token: A token with write access; by default that of the arguments.
            revision: The branch, which is made if it is not there; by default that of the arguments.
            private: Whether a new repository is private; by default as the arguments say.
            subfolder: The folder of the repository; by default that of the arguments, and otherwise its top.
            **kwargs: Passed on to `create_model_card`.

        Returns:
            The commit, or its future with `blocking=False`; None in other processes than the first.

        Raises:
            PushError: The Hub refuses, or still fails after further attempts. The model is saved in `output_dir`.
            ValueError: `subfolder` is no folder of a repository.
        """
        check_subfolder(subfolder)
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        token = token if token is not None else self.args.hub_token
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        tags = kwargs.pop("tags", None) or []
        tags = [tags] if isinstance(tags, str) else list(tags)
        kwargs["tags"] = [*tags, *(tag for tag in getattr(self.model, "model_tags", None) or () if tag not in tags)]
        subfolder = subfolder or self.args.hub_subfolder
        self.create_model_card(**kwargs | {"subfolder": subfolder})
        self.finish_push()
        staged = self._stage_model(self.output_directory / CARD_NAME)
        options = {"commit_message": commit_message, "token": token, "revision": revision or self.args.hub_revision}
        options["path_in_repo"] = subfolder
        if blocking:
            return self._upload(staged, **options)
        return hf_api().run_as_future(self._upload, staged, **options)

    def push_checkpoint(self, checkpoint: Path) -> None:
        """Push the model after a checkpoint was saved, and with some strategies the checkpoint; do not wait for it."""
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        if not self.args.hub_always_push and self.push_in_progress is not None and not self.push_in_progress.is_done():
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            with self._going_on_without_hub():
                self.init_hf_repo()
            if self.hub_model_id is None:
                return
        by_steps = self.args.save_strategy == SaveStrategy.STEPS
        when = f"step {self.state.global_step}" if by_steps else f"epoch {int(self.state.epoch)}"
        message = f"Training in progress, {when}"
        options = {"token": self.args.hub_token, "revision": self.args.hub_revision}
        top = self.args.hub_subfolder
        jobs = [self._upload_in_background(self._stage_model(), commit_message=message, path_in_repo=top, **options)]
        if self.args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            replaces_last = self.args.hub_strategy == HubStrategy.CHECKPOINT
            path = "/".join(filter(None, (top, "last-checkpoint" if replaces_last else checkpoint.name)))

            def fill(folder: Path) -> None:
                shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
                self.write_card(folder, path)

            options |= {"path_in_repo": path, "commit_message": f"{message}, checkpoint"}
            jobs.append(self._upload_in_background(_stage(fill), **options))
        if self.push_in_progress is None or self.push_in_progress.is_done():
            self.push_in_progress = PushInProgress(jobs)
        else:
            self.push_in_progress.jobs.extend(jobs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, its processor and the arguments, whole or not at all; where the arguments say so, push it.

        Beside an adapter, a processor with a tokenizer goes into the folder `processor`. PEFT's `AutoPeftModel` takes
        a tokenizer beside an adapter for a reason to look at the base model's input embeddings, and a CLIP has no way
        to ask for these.

        Args:
            output_dir: The folder; by default that of the arguments.
            _internal_call: True if the Trainer calls it, and the model is not to be pushed.
        """
        if self.args.should_save:
            target = Path(output_dir or self.output_directory)
            with written_whole(target) as folder, self._processor_in_its_folder(), without_cards():
                super().save_model(str(folder), _internal_call=True)
                if not is_checkpoint(target):  # A card takes longer than all the rest of a checkpoint.
                    self.write_card(folder)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    @contextmanager
    def _processor_in_its_folder(self) -> Iterator[None]:
        processing_class = self.processing_class
        processor = processing_class or getattr(self.data_collator, "tokenizer", None)
        if isinstance(self.model, PeftModel) and _tokenizes(processor):
            self.processing_class = _InItsFolder(processor)  # type: ignore[assignment]  # only saved in the block
        try:
            yield
        finally:
            self.processing_class = processing_class

    def write_card(self, folder: Path, subfolder: str | None = None) -> None:
        """Write the model's card into a folder; what has no cards of its own writes none.

        Args:
            folder: The folder.
            subfolder: Where the folder's files go in the repository; by default at the top.
        """

    def _stage_model(self, card: Path | None = None) -> tempfile.TemporaryDirectory:
        """A folder with the model as it is now, its processor and its card, by default one of this moment."""

        def fill(folder: Path) -> None:
            self.save_model(str(folder), _internal_call=True)
            if card is not None and card.is_file():
                shutil.copy(card, folder / CARD_NAME)

        return _stage(fill)

    def _upload(self, staged: tempfile.TemporaryDirectory, **options: Any) -> CommitInfo:
        """Upload a staged folder and remove it.

        Raises:
            PushError: The Hub refuses, or still fails after further attempts.
        """
        repository, revision, token = str(self.hub_model_id), options["revision"], options["token"]

        def upload() -> CommitInfo:
            if revision is not None:
                hf_api().create_branch(repository, branch=revision, token=token, exist_ok=True)
            return hf_api().upload_folder(repo_id=repository, folder_path=folder, **options)

        with staged as folder:
            try:
                # The client itself tries a commit several times.
                return ask_again(upload, f"Pushing to {repository}", WAITS[-1:])
            except Exception as error:
                if isinstance(error, RepositoryNotFoundError):
                    self.hub_model_id = None  # The next push creates it.
                raise PushError(
                    f"{options['commit_message']!r} was not pushed to {repository}: "
                    f"{what_the_hub_said(error)}. {self._where_it_is}"
                ) from error

    def _upload_in_background(self, staged: tempfile.TemporaryDirectory, **options: Any) -> Future[None]:
        def upload() -> None:
            try:
                self._upload(staged, **options)
            except PushError as error:
                logger.warning(f"{error} The run goes on.")

        return hf_api().run_as_future(upload)

    @property
    def _where_it_is(self) -> str:
        return f"What is saved stays in {self.args.output_dir}; call trainer.push_to_hub() to push it."

    @contextmanager
    def _going_on_without_hub(self) -> Iterator[None]:
        self._goes_on_without_hub = True
        try:
            yield
        finally:
            self._goes_on_without_hub = False


class _InItsFolder:
    """A processor that is saved in the folder `processor`."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def save_pretrained(self, directory: str, **kwargs: Any) -> Any:
        return self.processor.save_pretrained(str(Path(directory, PROCESSOR_FOLDER)), **kwargs)


def _stage(fill: Callable[[Path], Any]) -> tempfile.TemporaryDirectory:
    """A folder to push, filled and made public."""
    staged = tempfile.TemporaryDirectory(prefix="push-")
    try:
        fill(Path(staged.name))
        make_public(Path(staged.name))
    except BaseException:
        staged.cleanup()
        raise
    return staged


def _tokenizes(processor: Any) -> bool:
    return hasattr(processor, "tokenizer") or hasattr(processor, "convert_tokens_to_ids")
