"""How data sets are stored: one file per layout, each of which recognises its data and reads them.

Data in a layout of your own are read once it is added with [`add`].
"""

from __future__ import annotations

from .cifar100 import CIFAR100
from .class_folders import ClassFolders
from .coop import CoOpAircraft, CoOpSplits
from .coop_imagenet import CoOpImageNet
from .demo_task import DemoTask
from .hub import Hub
from .image_folder import ImageFolder
from .inaturalist import INaturalist
from .layout import Facts, Layout
from .long_tailed_lists import LongTailedLists
from .saved import Saved
from .tables import Tables
from .text_lists import TextLists
from .web_dataset import WebDataset


__all__ = ["Facts", "Hub", "Layout", "add", "find"]

LAYOUTS: list[Layout] = [
    DemoTask(),
    Saved(),
    LongTailedLists(),
    INaturalist(),
    CIFAR100(),
    CoOpSplits(),
    CoOpAircraft(),
    CoOpImageNet(),
    ImageFolder(),
    Tables(),
    TextLists(),
    WebDataset(),
    ClassFolders(),
    Hub(),
]
"""All layouts. The first that recognises a data set reads it."""


def add(layout: Layout) -> None:
    """Add a layout. It is asked before those that are there.

    Args:
        layout: The layout.
    """
    LAYOUTS.insert(0, layout)


def find(source: str) -> Layout:
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
    raise ValueError(f"{source} is stored in no known way. A data set is one of these: {known}.")
