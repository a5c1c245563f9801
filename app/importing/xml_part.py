"""How is a part of an XLSX file read, whose XML may be hostile? As it is unpacked, and nothing outside it is asked for.

A part is XML in a zip archive. A document type, which is what entities need, is refused: no spreadsheet has one
(ECMA-376, part 2). What is unpacked is thrown away once it was read, so a part may be larger than the memory.
"""

import functools
import zlib
from collections.abc import Callable, Iterator
from typing import Any
from xml.parsers import expat  # a document type is refused below, and with it all that makes this module unsafe
from zipfile import BadZipFile, ZipFile, ZipInfo

from app.importing.ticket_file import FileError

CHUNK = 65_536  # bytes
LONGEST_TAG = 1024 * 1024  # bytes that are kept until a tag ends
MOST_BYTES = 4 * 1024**3  # of one part: a million rows of 4 KB
BOMB_BYTES, BOMB_RATIO = 256 * 1024**2, 200  # a sheet of real tickets shrinks to a tenth; POI refuses at 100
DAMAGED = "the file is damaged, or no XLSX file: {}; export it again"


class Handler:
    """What is called for each tag and text of a part. Names are without their prefix."""

    def start(self, name: str, attributes: dict[str, str]) -> None: ...

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...


def find(archive: ZipFile, name: str) -> ZipInfo | None:
    """Return the part of a name, whatever its case and its slashes, which some programs write as Windows has them.

    None where there is none. Raises FileError for a zip bomb.
    """
    wanted = name.lstrip("/").casefold()
    part = next((one for one in archive.infolist() if one.filename.replace("\\", "/").casefold() == wanted), None)
    if part is None:
        return None
    is_bomb = part.file_size > BOMB_BYTES and part.file_size > BOMB_RATIO * part.compress_size
    if is_bomb or part.file_size > MOST_BYTES:
        raise FileError(
            f"the file is {part.compress_size:,} bytes that unpack to {part.file_size:,}: no report does (a zip bomb?)"
        )
    return part


def steps(archive: ZipFile, part: ZipInfo, handler: Handler) -> Iterator[float]:
    """Call `handler` for what each chunk of the part holds; after each, yield how much is read, from 0 to 1.

    Raises FileError.
    """
    parser = _parser(handler)
    unpacked = 0
    try:
        for chunk in _chunks(archive, part):
            parser.Parse(chunk, False)  # noqa: FBT003  (expat's)
            unpacked += len(chunk)
            if unpacked - parser.CurrentByteIndex > LONGEST_TAG:
                raise FileError(DAMAGED.format(f"a tag in {part.filename} is longer than {LONGEST_TAG:,} bytes"))
            yield unpacked / part.file_size
        parser.Parse(b"", True)  # noqa: FBT003
        yield 1.0
    except expat.ExpatError as error:
        raise FileError(DAMAGED.format(f"{part.filename}: {error}")) from None


def _chunks(archive: ZipFile, part: ZipInfo) -> Iterator[bytes]:
    """Yield a part as it is unpacked. Raises FileError."""
    try:
        with archive.open(part) as content:
            while chunk := content.read(CHUNK):
                yield chunk
    except (BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise FileError(DAMAGED.format(f"{part.filename}: {error}")) from None
    except RuntimeError:  # zipfile's word for a part with a password
        raise FileError("the file is encrypted with a password: save it without one") from None
    except OSError as error:
        raise FileError(f"the file cannot be read: {error.strerror}") from None


def parse(archive: ZipFile, name: str, handler: Handler) -> bool:
    """Call `handler` for all that a part holds; return False where the archive has none of that name."""
    if (part := find(archive, name)) is None:
        return False
    for _ in steps(archive, part, handler):
        pass
    return True


def _parser(handler: Handler) -> Any:  # noqa: ANN401  (expat names no type for it)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.buffer_size = CHUNK
    parser.StartDoctypeDeclHandler = _refuse_document_type
    parser.StartElementHandler = functools.partial(_on_root, parser, handler)
    parser.CharacterDataHandler = handler.text
    return parser


def _on_root(parser: Any, handler: Handler, name: str, attributes: dict[str, str]) -> None:  # noqa: ANN401
    """Have `handler` called from the part's first tag on: by way of what takes off prefixes only where it has one."""
    start, end = handler.start, handler.end
    if ":" in name:
        start, end = _without_prefix(start), _without_prefix(end)
    parser.StartElementHandler, parser.EndElementHandler = start, end
    start(name, attributes)


def _without_prefix(call: Callable[..., None]) -> Callable[..., None]:
    return lambda name, *more: call(name.rpartition(":")[2], *more)


def _refuse_document_type(*_: object) -> None:
    raise FileError("the file's XML has a document type (DTD), which no spreadsheet has: it may be hostile")
