"""Reads topics, documents and numbers from tables in memory, and makes data frames of them.

A table is a data frame of pandas or polars, an Arrow table, or a mapping of names to lists. Reading
one imports none of their libraries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from dupmae_toolkit.errors import InputError, type_of

#: The usual names of columns; if a table has several of them, the first in this order counts.
TOPICS = (
    *("query-id", "query_id", "queryid", "q_id", "qid"),
    *("topic_id", "topic", "query"),
)
# In PyTerrier's tables, docno is the id and docid a number inside the index.
DOCUMENTS = (
    *("corpus-id", "corpus_id", "doc_id", "doc-id", "document_id", "passage_id"),
    *("docno", "docid", "document", "doc", "pid", "id"),
)
SCORES = ("score", "sim", "similarity")


def table_columns(
    table: Any, source: str, wanted: Mapping[str, tuple[str | None, Sequence[str]]]
) -> list[list[Any]]:
    """Some columns of a table, as lists of equal length.

    source: what the table is, for messages. wanted: for each column, what it holds, its name, and
    the usual names, which are tried if the name is None. Raises InputError for what is no table,
    and for a missing column.
    """
    if isinstance(table, Mapping):
        names: Any = table
    else:
        # Of Arrow tables, ``columns`` are the columns themselves.
        names = getattr(table, "column_names", None) or getattr(table, "columns", None)
    if names is None or isinstance(names, str) or not isinstance(names, Iterable):
        raise InputError(f"{source}: {type_of(table)}; give a data frame or an Arrow table")
    present = {str(name): name for name in names}
    lists = []
    for what, (given, usual) in wanted.items():
        name = given if given is not None else next((each for each in usual if each in present), "")
        if name not in present:
            expected = f"named {given!r}" if given is not None else f"of {what}s"
            remedy = f"it has {', '.join(present) or 'none'}; name it with {what}=…"
            raise InputError(f"{source}: no column {expected}; {remedy}")
        column = table[present[name]]
        if hasattr(column, "columns"):  # pandas gives all columns of one name
            raise InputError(f"{source}: two columns are named {name!r}; rename one")
        lists.append(_listed(column))
    if len(set(map(len, lists))) > 1:
        raise InputError(f"{source}: columns of different lengths")
    return lists


def _listed(column: Any) -> list[Any]:
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, method):
            values: list[Any] = getattr(column, method)()
            return values
    return list(column)


def id_of(value: Any, source: str, what: str) -> str:
    """An id as a string; integers become decimals. Raises InputError for anything else."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Integral) and not isinstance(value, bool):
        return str(int(value))
    raise InputError(f"{source}: {what} {value!r} is {type_of(value)}; ids are strings")


def numbers_of(values: Sequence[Any], source: str, what: str) -> np.ndarray:
    """Finite numbers as float64 [n]; InputError for others."""
    for value in values:
        if not isinstance(value, Real) or isinstance(value, bool):
            raise InputError(f"{source}: {what} {value!r} is {type_of(value)}; give a number")
    try:
        found = np.array(values, dtype=np.float64)
    except OverflowError as error:
        raise InputError(f"{source}: a {what} is beyond float64") from error
    if not np.isfinite(found).all():
        wrong = values[int(np.flatnonzero(~np.isfinite(found))[0])]
        raise InputError(f"{source}: {what} {wrong!r} is not a finite number")
    return found


def data_frame(columns: Mapping[str, Any]) -> Any:
    """A pandas data frame; InputError if pandas is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise InputError("a data frame needs the package pandas; pip install pandas") from error
    return pandas.DataFrame(columns)
