"""`propensity_score(file, names, values)` in DuckDB: what SQL calls, in the warehouse and in real time."""

import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from duckdb.func import ARROW, SPECIAL
from duckdb.sqltypes import DOUBLE, VARCHAR

from segue.errors import BadInputError
from segue.scoring.forest import Scorer, load_scorer, missing_features

log = logging.getLogger(__name__)

FUNCTION = "propensity_score"

_KEPT = 64

_unusable: set[str] = set()  # files that were told to be so


def register(con: duckdb.DuckDBPyConnection) -> None:
    """Make the function known on a connection. It depends on its arguments alone.

    `file` is a model file, or null when no model is in force; `names` are the features, separated by commas; `values`
    are theirs, null where missing. The answer is a probability, or null when there is no usable model.
    """
    con.create_function(
        FUNCTION, _score, [VARCHAR, VARCHAR, duckdb.list_type(DOUBLE)], DOUBLE,
        type=ARROW, null_handling=SPECIAL,
    )  # fmt: skip


def scorer(file: str) -> Scorer | None:
    """The model of a file; None, told once, for as long as it cannot be used."""
    try:
        found = _read(file)
    except BadInputError as error:
        if file not in _unusable:
            log.error("%s; its scores are null (%s)", error.message, error.fix)
        _unusable.add(file)
        return None
    _unusable.discard(file)
    return found


@lru_cache(maxsize=_KEPT)
def _read(file: str) -> Scorer:
    """A whole file never changes, so it is read once; what fails is not kept, since the file can come back."""
    return load_scorer(Path(file))


@lru_cache(maxsize=_KEPT)
def _places(file: str, names: str) -> tuple[int, ...] | None:
    """Where the features of a model that can be read stand among the values; None when one is not there."""
    found = _read(file)
    given = names.split(",")
    missing = missing_features(found, given)
    if missing:
        log.error(
            "the model %s of %s needs the feature %s, which is not there any more; its scores are null until it is "
            "trained anew", found.version, found.name, missing[0],
        )  # fmt: skip
        return None
    return tuple(given.index(name) for name in found.features)


def _score(files: Any, names: Any, values: Any) -> Any:
    count = len(files)
    if not count:
        return pa.nulls(0, pa.float64())
    # Both are constants of the query; only tests and the curious pass columns.
    file, spelled = files[0].as_py(), names[0].as_py()
    if count > 1 and (files[-1].as_py() != file or len(files.unique()) > 1):
        return _piecewise(files, names, values)
    found = scorer(file) if file is not None else None
    places = _places(file, spelled) if found is not None else None
    if places is None or found is None:
        return pa.nulls(count, pa.float64())
    lists = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    matrix = flat.reshape(count, -1)[:, places]
    return pa.array(found.probability(matrix))


def _piecewise(files: Any, names: Any, values: Any) -> Any:
    parts = [_score(files.slice(n, 1), names.slice(n, 1), values.slice(n, 1)) for n in range(len(files))]
    return pa.array(np.array([p[0].as_py() for p in parts], dtype=object), pa.float64())
