"""A collection on the Hub that gathers the repositories of a command's adapters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from huggingface_hub import HfApi

from ..hub import ask_again, what_the_hub_said
from .publishing import Publication


def gather_in_collection(title: str, publications: Sequence[Publication]) -> str | None:
    """Put the repositories of adapters into the collection of a title, which is made if it is not there.

    It belongs to the owner of the repositories, and is private if they were asked to be. What was in it stays.

    Args:
        title: The collection's title.
        publications: The adapters, of one owner. What is not pushed has no place in it yet.

    Returns:
        What is missing, and why; None if nothing is.
    """
    repositories = list(dict.fromkeys(each.repository for each in publications if each.is_pushed))
    if not repositories:
        return None
    api, owner = HfApi(token=publications[0].token), repositories[0].rpartition("/")[0] or None
    what = f"Gathering the repositories in the collection {title!r}"
    private = bool(publications[0].private)
    try:
        collection = ask_again(
            lambda: api.create_collection(title, namespace=owner, private=private, exists_ok=True), what
        )
        there = {item.item_id for item in collection.items}
        for repository in repositories:
            if repository not in there:
                add = partial(api.add_collection_item, collection.slug, repository, "model", exists_ok=True)
                ask_again(add, what)
    except Exception as error:
        return f"the collection {title!r}: {what_the_hub_said(error)}"
    return None
