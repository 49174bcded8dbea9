"""Read the layout of COCO: images, and JSON files of their annotations."""

from __future__ import annotations

import json
import mmap
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..labels import shortened


PATTERNS = (
    "annotations/instances_*.json",
    "instances_*.json",
    "*/_annotations.coco.json",
    "_annotations.coco.json",
)
"""What files of annotations are called, in the order in which they are looked for."""

OTHER_PATTERNS = ("annotations/*.json", "*.json")
"""Where files of other names are looked for that have annotations."""

SPLITS = {"train": "train", "val": "validation", "dev": "validation", "test": "test"}
"""What the name of a file or its folder has → the split."""


def find_annotations(root: Path) -> dict[str, Path]:
    """Find the annotations of a folder.

    Returns:
        Split → JSON file; empty if there are none in this layout.

    Raises:
        ValueError: Several files are of one split.
    """
    for pattern in PATTERNS + OTHER_PATTERNS:
        files = [path for path in sorted(root.glob(pattern)) if pattern in PATTERNS or _has_objects(path)]
        found: dict[str, Path] = {}
        for path in files:
            split = _split_of(path, root)
            if split in found:
                raise ValueError(
                    f"{found[split]} and {path} are both annotations of the {split} split; keep one of them, or name "
                    "them instances_train.json, instances_val.json and so on."
                )
            found[split] = path
        if found:
            return found
    return {}


def read_rows(path: Path, root: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Read a file of annotations.

    Args:
        path: The JSON file.
        root: The data set's folder, in which images are looked for.

    Returns:
        For each image a row with its path as `image`, its `width` and `height`, and `objects`: `bbox` as written,
        `category`, and `crowd`. And the names of the categories, in the order of their ids, which may have gaps.

    Raises:
        ValueError: It lacks images, annotations or categories, or an annotation is of an image or a category that is
            not there; categories of the same name or id; image files that do not exist.
    """
    content = _read(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise ValueError(
                f"{path} has no list {key!r}; COCO's annotations have images, annotations and categories."
            )
    categories = sorted(content["categories"], key=lambda each: each["id"])
    for what in ("id", "name"):
        if repeated := [value for value, count in Counter(each[what] for each in categories).items() if count > 1]:
            raise ValueError(
                f"{path} has several categories with the {what} {repeated[0]!r}; rename or merge them, so that each "
                "has its own."
            )
    labels = {each["id"]: label for label, each in enumerate(categories)}
    images = {each["id"]: each for each in content["images"]}
    if len(images) < len(content["images"]):
        raise ValueError(f"{path} has several images with one id; give each image its own.")
    objects: dict[Any, dict[str, list[Any]]] = defaultdict(lambda: {"bbox": [], "category": [], "crowd": []})
    for annotation in content["annotations"]:
        if annotation.get("image_id") not in images or annotation.get("category_id") not in labels:
            missing = "image" if annotation.get("image_id") not in images else "category"
            raise ValueError(
                f"Annotation {annotation.get('id')} of {path} is of {missing} {annotation.get(f'{missing}_id')!r}, "
                f"which the file has not; remove the annotation, or add the {missing}."
            )
        if annotation.get("bbox") is None:
            raise ValueError(f"Annotation {annotation.get('id')} of {path} has no bbox; add it, or remove it.")
        of_image = objects[annotation["image_id"]]
        of_image["bbox"].append(annotation["bbox"])
        of_image["category"].append(labels[annotation["category_id"]])
        of_image["crowd"].append(bool(annotation.get("iscrowd", 0)))
    places = list(_places(path, root))
    rows = [
        {
            "image": _find_image(str(each["file_name"]), places),
            "width": each.get("width"),
            "height": each.get("height"),
            "objects": objects[identifier],
        }
        for identifier, each in images.items()
    ]
    if absent := [each["file_name"] for each, row in zip(images.values(), rows, strict=True) if row["image"] is None]:
        raise ValueError(
            f"{len(absent)} of {len(rows)} image files of {path} do not exist, such as {shortened(absent[:3])}; they "
            f"were looked for in {', '.join(map(str, places))}."
        )
    return rows, [str(each["name"]) for each in categories]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error}); repair or remove it.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object, as COCO's annotations are.")
    return content


def _has_objects(path: Path) -> bool:
    """Tell whether a JSON file has annotations of categories; those of captions have none. It is not parsed."""
    if not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return all(content.find(key) >= 0 for key in (b'"annotations"', b'"categories"', b'"bbox"'))


def _split_of(path: Path, root: Path) -> str:
    name = path.stem if path.stem != "_annotations.coco" else path.parent.name
    name = name if path.parent != root or path.stem != "_annotations.coco" else "train"
    return next((split for part, split in SPLITS.items() if part in name.lower()), "train")


def _places(path: Path, root: Path) -> Iterator[Path]:
    """The folders in which the images of a file of annotations may be."""
    year_and_split = path.stem.removeprefix("instances_")
    names = [year_and_split, f"images/{year_and_split}", "images", ""]
    found = [path.parent, *(root / name for name in names)]
    yield from dict.fromkeys(place for place in found if place.is_dir())


def _find_image(name: str, places: list[Path]) -> str | None:
    return next((str(place / name) for place in places if (place / name).is_file()), None)
