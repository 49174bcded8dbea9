"""How images and their masks are stored: one file per layout, each of which recognises its data and reads them.

Data in a layout of your own are read once it is added with [`add`].
"""

from __future__ import annotations

from .ade import ADE
from .folders import Folders
from .layout import MaskLayout, Masks, Pair, pairs_data
from .tables import DemoScenes, HubOrSaved
from .voc import VOC


__all__ = ["MaskLayout", "Masks", "Pair", "add", "find", "pairs_data"]

LAYOUTS: list[MaskLayout] = [DemoScenes(), VOC(), ADE(), Folders(), HubOrSaved()]
"""All layouts. The first that recognises a data set reads it."""


def add(layout: MaskLayout) -> None:
    """Add a layout. It is asked before those that are there.

    Args:
        layout: The layout.
    """
    LAYOUTS.insert(0, layout)


def find(source: str) -> MaskLayout:
    """Find the layout of a data set.

    Args:
        source: What the user named: a path, a Hub id, or a name.

    Raises:
        ValueError: There is such a file, and no layout recognises it.
    """
    for layout in LAYOUTS:
        if layout.recognises(source):
            return layout
    known = "; ".join(layout.description for layout in LAYOUTS)
    raise ValueError(f"{source} holds no images with masks that are known. A data set is one of these: {known}.")
