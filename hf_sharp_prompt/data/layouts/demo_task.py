from __future__ import annotations

import logging
from pathlib import Path

from datasets import ClassLabel, DatasetDict, Features, Image

from ...demo import TASKS, load_task
from ..catalogue import CatalogueEntry
from .layout import Facts, Layout


logger = logging.getLogger(__name__)


class DemoTask(Layout):
    """A task of the embedded demo, by its name."""

    description = "a task of the embedded demo"

    def recognises(self, source: str) -> bool:
        return source in TASKS

    def read(self, entry: CatalogueEntry) -> DatasetDict:
        task = entry.source
        if Path(task).exists():
            logger.warning(f"{task} is taken as the demo's task; for the folder of that name give ./{task}.")
        return load_task(task)

    def facts(self, entry: CatalogueEntry) -> Facts:
        task = TASKS[entry.source]
        return Facts(Features({"image": Image(), "label": ClassLabel(names=list(task.classes))}), task.template)
