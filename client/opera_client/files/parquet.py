"""Parquet to JSON Lines and back, batch by batch; needs pyarrow, which is imported only here and when needed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from opera_client.errors import BadInput
from opera_client.extras import missing_extra
from opera_client.wire import Group, RankItem, Trajectory

_ROWS = 256
"""Rows in memory at a time."""


def require_pyarrow(what: str) -> None:
    """Raise the line that names the extra unless pyarrow is installed."""
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_extra(error, what) from None


def spelled_out(path: Path, file: IO[bytes]) -> IO[bytes]:
    """Return the rows of an open Parquet file as JSON Lines in a temporary file; nulls are left out.

    Columns that nobody uses may hold anything.

    Raises:
        BadInput: no Parquet inside, or a used column that JSON cannot hold.
    """
    require_pyarrow("reading Parquet")
    spool = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
    for row in _rows(path, file):
        spool.write(json.dumps(_writable(path, without_nulls(row))).encode() + b"\n")
    file.close()
    return spool


_USED = frozenset({*Group.model_fields, *Trajectory.model_fields, *RankItem.model_fields})


def _writable(path: Path, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without columns (images, times) that JSON cannot hold; raises where one is used."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        try:
            json.dumps(value)
        except TypeError as error:
            if name in _USED:
                raise BadInput(f"{path}: column {name!r} is no text ({error}); convert it") from None
            found[name] = None
        else:
            found[name] = value
    return found


def to_jsonl(parquet: Path, jsonl: Path) -> None:
    """Write the records of a result in Parquet as JSON Lines. Raises `BadInput` if it is no Parquet."""
    with parquet.open("rb") as file, jsonl.open("wb") as out:
        for row in _rows(parquet, file):
            if isinstance(row.get("run"), str):
                row["run"] = json.loads(row["run"])
            out.write(json.dumps(row, separators=(",", ":"), default=str).encode() + b"\n")


def held(parquet: Path) -> tuple[int, Any]:
    """Return how many records a result in Parquet holds and the model of its first; else 0 and None."""
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(parquet) as file:
            (first,) = next(file.iter_batches(batch_size=1, columns=["run"])).to_pylist()
            return file.metadata.num_rows, json.loads(first["run"])["model"]
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return 0, None


def to_parquet(jsonl: Path, parquet: Path) -> None:
    """Write records of JSON Lines as Parquet: the same columns, but `run` as JSON text (its keys vary)."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    kinds = [pa.schema(pa.array(batch).type) for batch in _records(jsonl)]
    schema = pa.unify_schemas(kinds, promote_options="permissive")
    unfinished = parquet.with_name(parquet.name + ".tmp")
    try:
        with ParquetWriter(unfinished, schema) as writer:
            for batch in _records(jsonl):
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))
    except OSError as error:
        raise BadInput(f"cannot write {parquet}: {error.strerror}; run the same command again to go on") from None
    unfinished.replace(parquet)


def _records(jsonl: Path) -> Iterator[list[dict[str, Any]]]:
    with jsonl.open("rb") as file:
        while lines := list(islice(file, _ROWS)):
            records = [json.loads(line) for line in lines]
            yield [{**record, "run": json.dumps(record["run"])} for record in records]


def _rows(path: Path, file: IO[bytes]) -> Iterator[dict[str, Any]]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        parquet = ParquetFile(file)
        refuse_twins(path, parquet.schema_arrow)
        for batch in parquet.iter_batches(batch_size=_ROWS):
            yield from batch.to_pylist()
    except (ArrowException, OSError, UnicodeError) as error:  # names and texts that are no UTF-8 included
        raise BadInput(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from None


def refuse_twins(path: Path, schema: Any) -> None:
    """Raise `BadInput` where two columns, or two fields of one column, share a name: a row has place for one."""
    if twin := _twin(schema):
        raise BadInput(f"{path} has two columns called {twin!r}; rename one or leave it out")


def _twin(fields: Iterable[Any]) -> str | None:
    """Return the path of the first name that is there twice."""
    known: set[str] = set()
    for field in fields:
        if field.name in known:
            return str(field.name)
        known.add(field.name)
        kind = field.type
        if inner := _twin(kind.field(at) for at in range(kind.num_fields)):
            return f"{field.name}.{inner}"
    return None


def without_nulls(value: Any) -> Any:
    """Return a row's value as JSON has it: what is null is left out."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_nulls(inner) for inner in value]
    return value
