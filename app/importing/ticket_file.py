"""Which events does a file hold, line by line? JSON lines and CSV; only one line at a time is in memory."""

import csv
import hashlib
import os
from collections.abc import Callable, Iterator
from io import BufferedReader
from typing import BinaryIO, TypeVar

import msgspec

from app import event
from app.event.flat import ResolvedTicketPayload
from app.importing import ids
from app.importing.ids import BadIdError, ZeroedIds
from app.importing.table import Cell, without_placeholder

JSONL, CSV = FORMATS = ("jsonl", "csv")
XLSX = "xlsx"
ENDINGS = {".jsonl": JSONL, ".ndjson": JSONL, ".csv": CSV, ".xlsx": XLSX, ".xlsm": XLSX, ".xls": XLSX}
COLUMNS = [name for name in ResolvedTicketPayload.__struct_fields__ if name != "tenant_id"]
REQUIRED = {field.name for field in msgspec.structs.fields(ResolvedTicketPayload) if field.required} - {"tenant_id"}
DELIMITERS = ",;\t"  # RFC 4180's, Excel's where numbers have a decimal comma, and that of cells pasted as text
BOM = b"\xef\xbb\xbf"
NOT_UTF_8 = "it is not UTF-8 (in Excel, save as “CSV UTF-8”)"
TAGS = "tags must be texts with ; between them, or a JSON array of strings"
_tags = msgspec.json.Decoder(list[str])
Record = TypeVar("Record", bytes, list[str])


class FileError(Exception):
    """The file cannot be read, or its first line is not what its format needs; the message says why."""


class LongLineError(Exception):
    """The line is longer than a webhook may be."""


class Line(msgspec.Struct, frozen=True):
    """The payload on line `number`, or the `error` why there is none. A row of CSV may end on a later line, `last`."""

    number: int
    last: int
    payload: bytes = b""
    error: str | None = None


class _BadRowError(Exception):
    """The row cannot become a payload; the message says why."""


class Lines:
    """Iterates over a file's lines, ends included. Raises LongLineError for one over `limit` bytes, and can go on."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file, self._limit = file, limit
        self.number = self.bytes_read = 0  # up to the last line that was returned

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> bytes:
        line = self._read()
        if not line:
            raise StopIteration
        self.number += 1
        is_long = False
        while (part := line)[-1:] != b"\n" and len(part) > self._limit:
            is_long, line = True, self._read()
        if is_long:
            raise LongLineError(f"it is longer than {self._limit:,} bytes (MAX_BODY_BYTES)")
        return line.removeprefix(BOM) if self.number == 1 else line

    def _read(self) -> bytes:
        try:
            line = self._file.readline(self._limit + 1)
        except OSError as error:
            raise FileError(f"the file cannot be read: {error.strerror}") from None
        self.bytes_read += len(line)
        return line


def format_of(name: str) -> str | None:
    """Return the format that a file's name ends in; None if it ends otherwise."""
    return ENDINGS.get(os.path.splitext(name)[1].lower())  # noqa: PTH122  (`-` is no path)


def fingerprint(file: BufferedReader) -> str | None:
    """Return a digest of a file's bytes, and rewind the file; None for a pipe. Raises FileError."""
    if not file.seekable():
        return None
    try:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
        file.seek(0)
    except OSError as error:
        raise FileError(f"the file cannot be read: {error.strerror}") from None
    return digest


def payloads(
    lines: Lines,
    form: str,
    tenant_id: str,
    limit: int,
    zeroed: ZeroedIds | None = None,
    remark: Callable[[str], None] = lambda _words: None,
) -> Iterator[Line]:
    """Yield each line that is not blank, with its payload for the tenant. Raises FileError.

    In CSV, `zeroed` says whether ids that end in zeros are Excel's, and `remark` is called with what was made of an id.
    """
    if form == JSONL:
        return _json_lines(lines, tenant_id)
    return _csv_lines(lines, tenant_id, limit, zeroed or ZeroedIds(), remark)


def has_own_columns(line: bytes) -> bool:
    """Return whether the first line of CSV names the columns that a ticket of ours needs."""
    try:
        text = line.removeprefix(BOM).decode()
        return any(set(_names(text, delimiter)) >= REQUIRED for delimiter in DELIMITERS)
    except (StopIteration, UnicodeDecodeError, csv.Error):
        return False


def ids_of(lines: Lines, limit: int) -> Iterator[str]:
    """Yield each ticket's id in CSV, as far as it can be read. Raises FileError."""
    names, rows = _csv_rows(lines, limit)
    at = names.index("ticket_id")
    for _, row in rows:
        if not isinstance(row, str) and len(row) > at:
            try:
                yield ids.plain(Cell(row[at]))
            except BadIdError:
                continue  # its line is bad


def _each(records: Iterator[Record], lines: Lines) -> Iterator[tuple[int, Record | str]]:
    """Yield each record, or what is wrong with it, after the number of the line that it begins on."""
    while True:
        number = lines.number + 1
        try:
            record = next(records)
        except StopIteration:
            return
        except LongLineError as error:
            yield number, str(error)
        except csv.Error as error:
            yield number, f"it is no row of CSV: {error}"
        else:
            yield number, record


def _json_lines(lines: Lines, tenant_id: str) -> Iterator[Line]:
    for number, line in _each(lines, lines):
        if isinstance(line, str):
            yield Line(number, number, error=line)
        elif stripped := line.strip():
            yield Line(number, number, _named(stripped, tenant_id))


def _named(line: bytes, tenant_id: str) -> bytes:
    """Return a line's own bytes, with the tenant as its first member if the line names none."""
    try:
        event.tenant_of(line)
    except event.RejectedError:
        # If the line has a `tenant_id` that is no string, that comes later: it wins, and is reported.
        rest = line[1:].lstrip()
        comma = b"" if rest.startswith(b"}") else b","
        return b'{"tenant_id":' + msgspec.json.encode(tenant_id) + comma + rest
    except event.MalformedError:
        pass  # reported when the payload is read
    return line


def _csv_lines(
    lines: Lines, tenant_id: str, limit: int, zeroed: ZeroedIds, remark: Callable[[str], None]
) -> Iterator[Line]:
    names, rows = _csv_rows(lines, limit)
    for number, row in rows:
        if isinstance(row, str):
            yield Line(number, lines.number, error=row)
            continue
        try:
            yield Line(number, lines.number, _payload(names, row, tenant_id, zeroed, remark))
        except _BadRowError as error:
            yield Line(number, lines.number, error=str(error))


def _csv_rows(lines: Lines, limit: int) -> tuple[list[str], Iterator[tuple[int, list[str] | str]]]:
    """Return the columns' names, and each row that is not empty after the number of the line that it begins on."""
    csv.field_size_limit(limit)
    names, delimiter = _header(lines)
    rows = csv.reader(map(_text, lines), delimiter=delimiter, strict=True)
    return names, ((number, row) for number, row in _each(rows, lines) if any(row))


def _text(line: bytes) -> str:
    """Decode a line; what is not UTF-8 becomes an error of its row."""
    return line.decode(errors="surrogateescape")


def _header(lines: Lines) -> tuple[list[str], str]:
    """Return the names of the columns and their delimiter: the one that finds most names that we know."""
    try:
        text = next(lines).decode()
        found = {delimiter: _names(text, delimiter) for delimiter in DELIMITERS}
    except (StopIteration, LongLineError, UnicodeDecodeError, csv.Error):
        raise FileError(f"the first line must name the columns, in UTF-8: {', '.join(COLUMNS)}") from None
    delimiter = max(DELIMITERS, key=lambda one: len(REQUIRED & set(found[one])))
    names = found[delimiter]
    if missing := [name for name in COLUMNS if name in REQUIRED - set(names)]:
        raise FileError(f"the first line must name the columns {', '.join(COLUMNS)}: {', '.join(missing)} is missing")
    if twice := [name for name in [*COLUMNS, "tenant_id"] if names.count(name) > 1]:
        raise FileError(f"the first line names a column twice: {', '.join(twice)}")
    return names, delimiter


def _names(text: str, delimiter: str) -> list[str]:
    return [name.strip().lower() for name in next(csv.reader([text], delimiter=delimiter, strict=True))]


def _payload(
    names: list[str], row: list[str], tenant_id: str, zeroed: ZeroedIds, remark: Callable[[str], None]
) -> bytes:
    """Return a row's columns as a JSON object, without those that are not ours. Raises _BadRowError."""
    if len(row) != len(names):
        raise _BadRowError(f"it has {len(row)} values for {len(names)} columns")
    cells = dict(zip(names, row, strict=True))
    members: dict[str, object] = {name: without_placeholder(name, cells[name]) for name in COLUMNS if name in cells}
    try:
        members["ticket_id"] = ids.read(Cell(cells["ticket_id"]), zeroed, remark)
        members["tags"] = split_tags(str(members.get("tags", "")).strip())
        return msgspec.json.encode({"tenant_id": cells.get("tenant_id") or tenant_id, **members})
    except BadIdError as error:
        raise _BadRowError(str(error)) from None
    except UnicodeEncodeError:
        raise _BadRowError(NOT_UTF_8) from None
    except (msgspec.DecodeError, RecursionError):
        raise _BadRowError(TAGS) from None


def split_tags(tags: str) -> list[str]:
    """Return the tags in a cell. Raises DecodeError or RecursionError where it begins as JSON and is no such array."""
    if tags.startswith("["):
        return _tags.decode(tags)
    return [tag.strip() for tag in tags.split(";") if tag.strip()]
