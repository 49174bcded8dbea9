"""One file per rule, each named as it is chosen. Importing this package registers all of them."""

from . import (
    asam,
    crsam,
    extragradient,
    focalsam,
    fsam,
    gcsam,
    gnm,
    gnp,
    graphsam,
    gsam,
    imbsam,
    looksam,
    none,
    rwp,
    sagm,
    sam,
    sample,
)
