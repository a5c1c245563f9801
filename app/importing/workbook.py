"""What does an XLSX file hold beside its rows: which sheets, and which cells are dates? Its macros are never read."""

import io
import re
from collections.abc import Mapping
from typing import BinaryIO
from zipfile import BadZipFile, ZipFile

import msgspec

from app.importing import xml_part
from app.importing.ticket_file import FileError

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # Microsoft's form of files before 2007, and of encrypted ones today
ENCRYPTED = "EncryptedPackage".encode("utf-16-le")  # the stream that an encrypted file has
MOST_PARTS = 4 * 1024 * 1024  # bytes of the archive's list of parts, which is kept in memory: some ten thousand parts
MOST_NAMED = 70_000  # sheets, styles or formats; Excel allows 65,490 styles
DATE_FORMATS = frozenset({*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)})  # ECMA-376, 18.8.30
_LITERAL = re.compile(r'"[^"]*"|\\.|\[(?!h+\]|m+\]|s+\])[^\]]*\]|_.|\*.', re.IGNORECASE)


class Sheet(msgspec.Struct, frozen=True):
    """A sheet that is not hidden, and the part that has its rows."""

    name: str
    part: str


class Workbook(msgspec.Struct, frozen=True):
    """What is needed to read the rows: `dates` are the styles of cells that show a date."""

    sheets: list[Sheet]
    dates: frozenset[str]
    counts_from_1904: bool
    shared_strings: str


def open_archive(file: BinaryIO) -> ZipFile:
    """Return the archive that an XLSX file is. Raises FileError, which says what else it is."""
    head = file.read(8)
    if head == OLE:
        raise FileError(_what_ole_is(file))
    _require_short_list(file)
    try:
        return ZipFile(file)
    except (BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise FileError(xml_part.DAMAGED.format(error)) from None


def _what_ole_is(file: BinaryIO) -> str:
    last = b""
    while chunk := file.read(1024 * 1024):
        if ENCRYPTED in last + chunk:
            return "the file is encrypted with a password: save it without one"
        last = chunk[-len(ENCRYPTED) :]
    return "the file has Excel's form before 2007 (.xls): save it as XLSX, or export it as XLSX or CSV"


def _require_short_list(file: BinaryIO) -> None:
    """Raise FileError for an archive whose list of parts is long: zipfile would keep all of it in memory."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 66_000))  # 22 bytes, and a comment of at most 65,535
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    listed = int.from_bytes(tail[end + 12 : end + 16], "little") if end >= 0 else 0
    if (end_64 := tail.rfind(b"PK\x06\x06")) >= 0:
        listed = int.from_bytes(tail[end_64 + 40 : end_64 + 48], "little")
    if listed > MOST_PARTS:
        raise FileError("the file is an archive of very many parts, and no report")


def read(archive: ZipFile) -> Workbook:
    """Return what the archive holds beside rows. Raises FileError where it is no workbook."""
    package = _relations(archive, "_rels/.rels", "")
    main = next((part for kind, part in package.values() if kind == "officeDocument"), "xl/workbook.xml")
    folder, _, name = main.rpartition("/")
    relations = _relations(archive, f"{folder}/_rels/{name}.rels", folder)
    listed, styles = _Sheets(), _Styles()
    if not xml_part.parse(archive, main, listed):
        raise FileError("the file is no XLSX file: it has no workbook; export the report as XLSX or CSV")
    parts = dict(relations.values())
    xml_part.parse(archive, parts.get("styles", "xl/styles.xml"), styles)
    sheets = [Sheet(name, relations[key][1]) for name, key in listed.found if _is_worksheet(relations, key)]
    return Workbook(sheets, styles.dates, listed.counts_from_1904, parts.get("sharedStrings", "xl/sharedStrings.xml"))


def _is_worksheet(relations: Mapping[str, tuple[str, str]], key: str) -> bool:
    return relations.get(key, ("", ""))[0] == "worksheet"


def _relations(archive: ZipFile, name: str, folder: str) -> dict[str, tuple[str, str]]:
    """Return by its key the kind and the name of each part that another names; none that is outside the file."""
    found = _Relations()
    xml_part.parse(archive, name, found)
    return {key: (kind, _within(folder, target)) for key, (kind, target) in found.found.items()}


def _within(folder: str, target: str) -> str:
    """Return the name of the part that `target`, which another part in `folder` names, means."""
    if target.startswith("/"):
        return target[1:]
    path = folder.split("/") if folder else []
    for step in target.split("/"):
        path = path[:-1] if step == ".." else [*path, step]
    return "/".join(path)


class _Relations(xml_part.Handler):
    def __init__(self) -> None:
        self.found: dict[str, tuple[str, str]] = {}

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "Relationship" and attributes.get("TargetMode") != "External":
            kind = attributes.get("Type", "").rpartition("/")[2]
            self.found[attributes.get("Id", "")] = (kind, attributes.get("Target", ""))
            _require_few(self.found)


class _Sheets(xml_part.Handler):
    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        self.counts_from_1904 = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "workbookPr":
            self.counts_from_1904 = attributes.get("date1904") in ("1", "true")
        elif name == "sheet" and attributes.get("state", "visible") == "visible":
            key = next((value for at, value in attributes.items() if at.rpartition(":")[2] == "id"), "")
            self.found.append((attributes.get("name", ""), key))
            _require_few(self.found)


class _Styles(xml_part.Handler):
    """Collects which styles of cells (`cellXfs`, by their position) show a number as a date."""

    def __init__(self) -> None:
        self._formats: dict[str, str] = {}
        self._styles: list[str] = []
        self._is_of_cells = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "numFmt":
            self._formats[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")
            _require_few(self._formats)
        elif name == "cellXfs":
            self._is_of_cells = True
        elif name == "xf" and self._is_of_cells:
            self._styles.append(attributes.get("numFmtId", "0"))
            _require_few(self._styles)

    def end(self, name: str) -> None:
        self._is_of_cells &= name != "cellXfs"

    @property
    def dates(self) -> frozenset[str]:
        return frozenset(str(at) for at, number in enumerate(self._styles) if self._is_date(number))

    def _is_date(self, number: str) -> bool:
        if (code := self._formats.get(number)) is None:
            return number.isdecimal() and int(number) in DATE_FORMATS
        return bool(re.search("[dmyhs]", _LITERAL.sub("", code.partition(";")[0]), re.IGNORECASE))


def _require_few(named: list[str] | list[tuple[str, str]] | dict[str, str] | dict[str, tuple[str, str]]) -> None:
    if len(named) > MOST_NAMED:
        raise FileError("the file names more sheets or styles than Excel allows: it is no report")
