"""Rows of a parquet file, or its column of vectors, read by a process of its own with bounded memory.

A few bytes of parquet can stand for gigabytes: pages are compressed, values repeated, sizes claimed. And it is read by
native code. So a child process decodes it, which may take MAX_MEMORY, and whose end by whatever cause is an error of
that file. This module is also the program
of the child, and imports nothing of ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

MAX_MEMORY = 2 << 30
"""Bytes of address space of the child, of which pyarrow itself takes some 300 MB; where the system can limit it."""

MAX_VALUE = 1 << 20
"""Characters of one value."""

MAX_BYTES = 256 << 20
"""Bytes of one picture."""

_BATCH_ROWS = 1024
_BATCH_BYTES = 8 << 20
_BATCH_CHARACTERS = 4 << 20
_VECTOR_ROWS = 256
_SCALARS = ("string", "large_string", "integer", "floating", "boolean", "null", "timestamp", "date")


class UnreadableError(Exception):
    """A parquet file that cannot be read; says why."""


def read_rows(path: str, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file; times as in ISO 8601.

    A column that is wanted must hold scalars. Of the others, those of scalars and of lists of texts are read.

    Raises UnreadableError, ModuleNotFoundError without pyarrow.
    """
    for message, _ in _messages("rows", path, *wanted):
        names = message["names"]
        yield from (dict(zip(names, row, strict=True)) for row in message["rows"])


def read_vectors(path: str, column: str) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Yield a column of lists of floating-point numbers, a batch at a time, none for an empty file.

    A batch is the shape of the whole column, (rows, dim) as the head of the file has it, and the bytes of float32
    (n, dim) in C order. A missing number is NaN.

    Raises UnreadableError, also for a list that is missing or of another length; ModuleNotFoundError without pyarrow.
    """
    for message, data in _messages("vectors", path, column):
        yield (message["rows"], message["dim"]), data


def read_groups(paths: Sequence[str]) -> dict[str, list[tuple[int, int]]]:
    """Return the rows and the uncompressed bytes of each row group of files, by path; not of one that is unreadable."""
    found: dict[str, list[tuple[int, int]]] = {}
    try:
        for message, _ in _messages("groups", *paths) if paths else ():
            found[message["path"]] = [(rows, size) for rows, size in message["groups"]]
    except (UnreadableError, ModuleNotFoundError):  # whoever reads the file says so
        pass
    return found


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A value that was left out, and why."""

    reason: str


def read_records(path: str, start: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file from a number on, also with pictures: bytes, or structures of `bytes` and `path`.

    Row groups before that number are not read. A value that is too long is a LeftOut; columns of other types are left
    out.

    Raises UnreadableError, ModuleNotFoundError without pyarrow.
    """
    for message, data in _messages("records", path, str(start)):
        names = message["names"]
        if message["plain"]:
            yield from (dict(zip(names, row, strict=True)) for row in message["rows"])
            continue
        for row in message["rows"]:
            yield {name: _received(value, data) for name, value in zip(names, row, strict=True)}


def _received(value: Any, data: bytes) -> Any:  # noqa: ANN401
    """Return a value as it was sent: bytes are sent apart from the rest."""
    if not isinstance(value, dict):
        return value
    if "left_out" in value:
        return LeftOut(value["left_out"])
    if "at" in value:
        return data[value["at"] : value["at"] + value["size"]]
    return {name: _received(inner, data) for name, inner in value.items()}


def _messages(*arguments: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Run this module as a program: yield what it sends, each time an object and maybe bytes."""
    command = [sys.executable, "-P", __file__, str(MAX_MEMORY), *arguments]
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"}
    nothing = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=nothing, stdout=subprocess.PIPE, stderr=nothing, env=environment) as child:
        assert child.stdout is not None
        try:
            while line := child.stdout.readline():
                message = json.loads(line)
                if "missing" in message:
                    raise ModuleNotFoundError(message["missing"])
                if "error" in message:
                    raise UnreadableError(message["error"])
                if "end" in message:
                    return
                size = message.pop("bytes", 0)
                data = child.stdout.read(size)
                if len(data) != size:
                    break
                yield message, data
            raise UnreadableError(f"reading it took more than {MAX_MEMORY >> 20:,} MB, or ended the process that did")
        finally:
            child.kill()


def _send(data: Any = b"", **message: Any) -> None:  # noqa: ANN401
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.write(data)


def _serve(memory: int, what: str, path: str, wanted: Sequence[str]) -> None:
    """Write the rows or vectors of a file to stdout, some a line; then that it ends, or what is wrong."""
    try:
        _limit_memory(memory)
        import pyarrow as arrow
        from pyarrow.parquet import ParquetFile

        arrow.set_cpu_count(1)
        if what == "groups":
            for each in (path, *wanted):
                _send_groups(each, ParquetFile)
            _send(end=True)
            return
        with ParquetFile(path, buffer_size=1 << 16, pre_buffer=False) as file:
            if what == "rows":
                _send_rows(file, wanted, arrow)
            elif what == "records":
                _send_records(file, int(wanted[0]), arrow)
            else:
                _send_vectors(file, wanted[0], arrow)
        _send(end=True)
    except ImportError as error:
        _send(missing=str(error))
    except MemoryError:
        _send(error=f"its values need more than {memory >> 20:,} MB of memory")
    except Exception as error:  # pyarrow raises many kinds; all of them are of this one file
        _send(error=str(error).split("\n")[0][:300] or type(error).__name__)


def _send_groups(path: str, opened: Any) -> None:  # noqa: ANN401
    try:
        with opened(path) as file:
            groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
            _send(path=path, groups=[(group.num_rows, group.total_byte_size) for group in groups])
    except (OSError, ValueError, MemoryError):  # pyarrow's errors are of these kinds
        return


def _limit_memory(memory: int) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):
        return  # a system that has no such limits


def _send_rows(file: Any, wanted: Sequence[str], arrow: Any) -> None:  # noqa: ANN401
    columns = []
    for field in file.schema_arrow:
        plain = field.type.value_type if arrow.types.is_dictionary(field.type) else field.type
        is_scalar = any(getattr(arrow.types, f"is_{kind}")(plain) for kind in _SCALARS)
        is_list = arrow.types.is_list(plain) and arrow.types.is_string(plain.value_type)
        if is_scalar or (is_list and field.name not in wanted):
            columns.append(field)
        elif field.name in wanted:
            raise ValueError(f"its column {field.name} has the type {str(field.type)[:60]}, which is not supported")
    if not columns:
        left = file.metadata.num_rows
        while left > 0:  # a claim that costs nothing: whoever reads stops where it is too much
            _send(names=[], rows=[[]] * min(left, _BATCH_ROWS))
            left -= _BATCH_ROWS
        return
    names = [field.name for field in columns]
    for batch in file.iter_batches(_BATCH_ROWS, columns=names, use_threads=False):
        values = [_to_python(column, arrow) for column in batch.columns]
        _send_batch(batch.schema.names, list(zip(*values, strict=True)))


def _send_records(file: Any, start: int, arrow: Any) -> None:  # noqa: ANN401
    names = [field.name for field in file.schema_arrow if _is_sendable(field.type, arrow.types)]
    if len(set(names)) != len(names):
        raise ValueError("two of its columns have the same name")
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        if start >= group.num_rows:
            start -= group.num_rows
            continue
        rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES * group.num_rows // max(group.total_byte_size, 1)))
        for batch in file.iter_batches(rows, row_groups=[number], columns=names, use_threads=False):
            if start >= batch.num_rows:
                start -= batch.num_rows
                continue
            sent = _Sent()
            columns = [[sent.value(value) for value in _plain(column, arrow)] for column in batch.slice(start).columns]
            start = 0
            rows_sent = list(zip(*columns, strict=True))
            _send(sent.data, names=batch.schema.names, rows=rows_sent, plain=sent.is_plain, bytes=len(sent.data))


def _is_sendable(kind: Any, types: Any) -> bool:  # noqa: ANN401
    plain = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_struct(plain):
        return any(field.name in ("bytes", "path") for field in plain)
    if types.is_list(plain) or types.is_large_list(plain):
        return bool(types.is_string(plain.value_type) or types.is_large_string(plain.value_type))
    is_binary = types.is_binary(plain) or types.is_large_binary(plain)
    return is_binary or any(getattr(types, f"is_{each}")(plain) for each in _SCALARS)


def _plain(column: Any, arrow: Any) -> list[Any]:  # noqa: ANN401
    """Return the values of a column; times as in ISO 8601."""
    if arrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if arrow.types.is_timestamp(column.type):  # a nanosecond is more than a datetime holds
        column = column.cast(arrow.timestamp("us", column.type.tz), safe=False)
    values: list[Any] = column.to_pylist()
    if arrow.types.is_timestamp(column.type) or arrow.types.is_date(column.type):
        return [value and value.isoformat() for value in values]
    return values


class _Sent:
    """The bytes that go with some rows. is_plain: whether all values are as JSON has them."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_plain = True

    def value(self, value: Any) -> Any:  # noqa: ANN401
        """Return a value as JSON has it."""
        if value is None or isinstance(value, int | float) or (isinstance(value, str) and len(value) <= MAX_VALUE):
            return value
        if isinstance(value, list) and _size(value) <= MAX_VALUE:
            return value
        self.is_plain = False
        if isinstance(value, bytes):
            if len(value) > MAX_BYTES:
                return {"left_out": f"its picture has {len(value):,} bytes, over the limit of {MAX_BYTES:,}"}
            self.data += value
            return {"at": len(self.data) - len(value), "size": len(value)}
        if isinstance(value, dict):
            return {name: self.value(inner) for name, inner in value.items() if name in ("bytes", "path")}
        return {"left_out": f"it holds a value of more than {MAX_VALUE:,} characters"}


def _send_vectors(file: Any, name: str, arrow: Any) -> None:  # noqa: ANN401
    _check_vectors([field.type for field in file.schema_arrow if field.name == name], name, arrow.types)
    row, dim = 0, None
    for batch in file.iter_batches(_VECTOR_ROWS, columns=[name], use_threads=False):
        for length in batch.column(0).value_lengths().to_pylist():
            dim = dim or length
            if not length or length != dim:
                found = f"a vector of {length} numbers, not {dim} as the first" if length and dim else "no vector"
                raise ValueError(f"row {row} has {found} in its column {name}")
            row += 1
        values = batch.column(0).flatten().to_numpy(zero_copy_only=False).astype("<f4")
        _send(values, rows=file.metadata.num_rows, dim=dim, bytes=values.nbytes)


def _check_vectors(found: Sequence[Any], name: str, types: Any) -> None:  # noqa: ANN401
    """Raise ValueError unless there is one column, of lists of floating-point numbers; found: its type."""
    if len(found) != 1:
        raise ValueError(f"it has {len(found)} columns {name}; it needs one")
    (kind,) = found
    if not (
        (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))
        and types.is_floating(kind.value_type)
    ):
        wanted = "lists of float16, float32 or float64"
        raise ValueError(f"its column {name} has the type {str(kind)[:60]}; it must hold {wanted}")


def _to_python(column: Any, arrow: Any) -> list[Any]:  # noqa: ANN401
    if arrow.types.is_dictionary(column.type):
        words = _to_python(column.dictionary, arrow)
        return [None if index is None else words[index] for index in column.indices.to_pylist()]
    values = _plain(column, arrow)
    if any(_size(value) > MAX_VALUE for value in values):
        raise ValueError(f"it holds a value of more than {MAX_VALUE:,} characters")
    return values


def _size(value: object) -> int:
    """Return about how many characters a value is written with."""
    if isinstance(value, list):
        return sum(map(_size, value)) + len(value)
    return len(value) if isinstance(value, str) else 0


def _send_batch(names: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
    """Send rows, so many a line that the line stays short."""
    size = sum(_size(value) for row in rows for value in row)
    if size > _BATCH_CHARACTERS and len(rows) > 1:
        half = len(rows) // 2
        _send_batch(names, rows[:half])
        _send_batch(names, rows[half:])
    else:
        _send(names=names, rows=rows)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
