from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ...hyperparameters import nearest


@dataclasses.dataclass(frozen=True)
class CatalogueEntry:
    """What is known about a named data set. A layout reads the `source`.

    Args:
        name: What the data set is called, for instance `oxford_pets`.
        source: Where the data are: a Hub id, a folder, or what else a layout recognises.
        config: The configuration on the Hub, where there are several.
        revision: The Hub's commit, tag or branch; by default the newest.
        image_column, label_column: The columns; by default they are found as in any other data set.
        splits: `train`, `validation` or `test` → the split of the source to use. By default all keep their names.
        class_names: The names of the classes as prompts have them: a list by label, or source's name → name. By
            default the source's own.
        template: The hand-written prompt, with `{}` for the name of a class.
        method_templates: Method → its hand-written prompt, where it has another, for instance
            `{"kgcoop": "a photo of a {}, a type of pet."}`.
        title: The name in texts, for instance `Oxford-IIIT Pets`.
        license: The licence, by the Hub's identifier.
        citation: The BibTeX entry.

    Raises:
        ValueError: A template has no `{}`, a split has another name, or the name of a class is no string.
    """

    name: str
    source: str
    config: str | None = None
    revision: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    class_names: list[str] | Mapping[str, str] | None = None
    template: str | None = None
    method_templates: Mapping[str, str] = dataclasses.field(default_factory=dict)
    title: str | None = None
    license: str | None = None
    citation: str | None = None

    def __post_init__(self) -> None:
        templates = {"template": self.template} | {
            f"method_templates[{m!r}]": t for m, t in self.method_templates.items()
        }
        for field, template in templates.items():
            if template is not None and "{}" not in template:
                raise ValueError(f"{self.name}: {field} must have a {{}} for the name of a class, got {template!r}.")
        for split in self.splits:
            if split not in ("train", "validation", "test"):
                raise ValueError(f"{self.name}: splits must be of train, validation and test, got {split!r}.")
        names = self.class_names.values() if isinstance(self.class_names, Mapping) else self.class_names or ()
        for name in names:
            if not isinstance(name, str):
                raise ValueError(f"{self.name}: class_names has {name!r}, which is no text; put it in quotes.")


def read_entry(path: Path) -> CatalogueEntry:
    """Read an entry from a YAML file: a mapping from the fields of [`CatalogueEntry`] to their values.

    Args:
        path: The file. Without a `name` in it, the data set has the file's name. A relative path as `source` is
            looked for beside the file.

    Raises:
        ValueError: A file that is no such mapping; an unknown field, with the nearest one; no source.
    """
    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a YAML file ({' '.join(str(error).split())}); correct it.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must map the fields of a data set to values, for instance 'source: a/hub_id'.")
    _check_fields(values, path)
    if (beside := path.parent / Path(values["source"]).expanduser()).exists():
        values["source"] = str(beside)
    fields: dict[str, Any] = {"name": path.stem} | values
    return CatalogueEntry(**fields)


def _check_fields(values: dict[str, Any], path: Path) -> None:
    fields = [field.name for field in dataclasses.fields(CatalogueEntry)]
    for name in values:
        if name not in fields:
            raise ValueError(
                f"{path} has a field {name!r}, which data sets do not have{nearest(str(name), fields)} "
                f"The fields are: {', '.join(fields)}."
            )
    if not isinstance(values.get("source"), str):
        raise ValueError(f"{path} has no source; add 'source: ', followed by a Hub id or a folder.")
