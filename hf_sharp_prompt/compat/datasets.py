"""What reaches into datasets: columns are written and looked at without copying images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features
from datasets.fingerprint import Hasher
from datasets.table import InMemoryTable, Table, cast_array_to_feature, concat_tables


def column_of(dataset: Dataset, name: str) -> pa.ChunkedArray:
    """Return a column's values as they are stored; `Dataset` takes selected rows one by one, which is slow."""
    column = dataset.data.column(name)
    return column if dataset._indices is None else column.take(dataset._indices.column(0))


def replace_column(
    dataset: Dataset, name: str, values: Sequence[Any] | np.ndarray | pa.Array | pa.ChunkedArray, feature: Any
) -> Dataset:
    """Write a column anew, or add one; it becomes the last.

    `Dataset.add_column` copies all other columns of rows that were selected, and `Dataset.cast_column` those of any
    rows. Of images that are stored in the data set, that is gigabytes.

    Args:
        dataset: The data set.
        name: The column.
        values: The value of each row.
        feature: The feature of the column.

    Returns:
        A data set of the same rows, which shares the other columns with `dataset`.

    Read on datasets 5.2.0, which has no public name for the rows that are selected.
    """
    schema = Features({name: feature}).arrow_schema
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        column = pa.table({name: values}, schema=schema)[name]
    elif values.type == schema.field(name).type:  # such as labels that get other names
        column = values
    else:
        column = cast_array_to_feature(values, feature)
    if dataset._indices is not None:
        selected = dataset._indices.column(0).to_numpy()
        if len(np.unique(selected)) < len(selected):  # A row that is there twice may have two values.
            return replace_column(dataset.flatten_indices(), name, column, feature)
        places = np.full(dataset.data.num_rows, -1)
        places[selected] = np.arange(len(selected))
        column = column.take(pa.array(places, mask=places < 0))
    others = [other for other in dataset.column_names if other != name]
    table: Table = InMemoryTable(pa.table({name: column}))
    if others:
        table = concat_tables([dataset.data.select(others), table], axis=1)
    info = dataset.info.copy()
    info.features = Features({**{other: dataset.features[other] for other in others}, name: feature})
    fingerprint = Hasher.hash((dataset._fingerprint, name, column, repr(feature)))
    return Dataset(table, info, dataset.split, dataset._indices, fingerprint)


def cast_column(dataset: Dataset, name: str, feature: Any) -> Dataset:
    """Change the feature of a column, as `Dataset.cast_column` does, without a copy of the others.

    Args:
        dataset: The data set.
        name: The column; it becomes the last.
        feature: Its new feature.

    Raises:
        ValueError, pyarrow.ArrowInvalid: A value that the feature cannot have.
    """
    return replace_column(dataset, name, column_of(dataset, name), feature)


def stored_files(dataset: Dataset, name: str) -> tuple[np.ndarray, pa.ChunkedArray]:
    """Tell where the images of a column are stored, without reading any that is stored in the data set.

    Args:
        dataset: The data set.
        name: A column of `datasets.Image(decode=False)`, or of other files.

    Returns:
        For each row, whether its bytes are stored in the data set, and its path, which may be null.
    """
    column = dataset.data.column(name)
    chunks = [(chunk.is_valid(), chunk.field("bytes"), chunk.field("path")) for chunk in column.chunks]
    has_bytes = np.concatenate(
        [pc.and_(there, content.is_valid()).to_numpy(zero_copy_only=False) for there, content, _ in chunks] or [[]]
    ).astype(bool)
    paths = pa.chunked_array([pc.if_else(there, path, None) for there, _, path in chunks], pa.string())
    if dataset._indices is None:
        return has_bytes, paths
    selected = dataset._indices.column(0)
    return has_bytes[selected.to_numpy()], paths.take(selected)
