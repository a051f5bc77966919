"""Input and output of detections: a file or a standard stream, plain or compressed with gzip."""

import gzip
import os
import re
import secrets
import shutil
import sys
import zlib
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path

from .errors import CommandError

STREAM = "-"
"""In place of a file name: standard input or standard output."""

_GZIP_MAGIC = b"\x1f\x8b"
_BLANK = "\ufeff \t\r\n"  # some editors begin a file with a byte order mark
_NOT_BLANK = re.compile(f"[^{_BLANK}]")


class Format(StrEnum):
    """How detections are written down; the value is the file name's extension."""

    JSON = "json"
    CSV = "csv"


def format_of(path: str) -> Format:
    """Return the format of a file from its name, ignoring ``.gz`` at the end."""
    plain = path.lower().removesuffix(".gz")
    for form in Format:
        if plain.endswith(f".{form}"):
            return form
    raise CommandError(
        f"{path}: expected a name ending in .json, .json.gz, .csv or .csv.gz, or - for a standard stream"
    )


def display_name(source: str) -> str:
    """Name an input in messages."""
    return "standard input" if source == STREAM else source


_NOTHING = "for no detections, write [] in JSON, or only a header line in CSV"


def read_text(source: str, *, nothing: str = _NOTHING) -> tuple[str, Format]:
    """Read a whole input, decompressed and decoded; return the text and its format.

    The format of a file follows from its name, the format of standard input from its first bytes. `nothing` is a hint
    in the error for empty input.
    """
    name = display_name(source)
    if source == STREAM and sys.stdin is None:
        raise CommandError(f"{name}: cannot be read: it is closed")
    try:
        data = sys.stdin.buffer.read() if source == STREAM else Path(source).read_bytes()
    except OSError as error:
        raise CommandError(f"{name}: cannot be read: {error.strerror}") from None
    compressed = data.startswith(_GZIP_MAGIC) if source == STREAM else _is_compressed(source)
    if compressed:
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise CommandError(f"{name}: not a valid gzip file: {error}") from None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CommandError(
            f"{name}: expected UTF-8 text, got byte 0x{data[error.start]:02x} at offset {error.start}"
        ) from None
    if not _NOT_BLANK.search(text):
        raise CommandError(f"{name}: is empty; {nothing}")
    return text, _sniff(text) if source == STREAM else format_of(source)


def _is_compressed(path: str) -> bool:
    return path.lower().endswith(".gz")


def _sniff(text: str) -> Format:
    # A brace is JSON too, though not a list: the error should be about JSON, not about a CSV header.
    return Format.JSON if text.lstrip(_BLANK).startswith(("[", "{")) else Format.CSV


def check_destination(target: str, *, force: bool) -> None:
    """Raise, before any work is done, if the output cannot be written."""
    if target == STREAM:
        return
    format_of(target)
    check_place(target, force=force)


def check_place(target: str, *, force: bool) -> None:
    """Raise if a file cannot be written, or exists and may not be replaced."""
    try:
        path = Path(target).resolve()
        in_folder, exists, regular = path.parent.is_dir(), os.path.lexists(path), path.is_file()
    except (OSError, RuntimeError) as error:  # a name that is too long; a link to itself, before Python 3.13
        raise CommandError(f"{target}: cannot be written: {getattr(error, 'strerror', None) or error}") from None
    if not in_folder or not os.access(path.parent, os.W_OK):
        raise CommandError(f"{target}: its folder does not exist or cannot be written to")
    if exists:
        # A device or a pipe is never replaced by a file, even with --force.
        if not regular:
            raise CommandError(f"{target}: is not a regular file; - writes to standard output")
        if not force:
            raise _already_there(target)


def check_same_format(form: Format, target: str) -> None:
    """Raise if the name of an output file has another format than the input."""
    if target != STREAM and format_of(target) != form:
        raise CommandError(f"{target}: the input is {form.upper()}, so expected .{form} or .{form}.gz")


def write_text(text: Iterable[str], target: str, *, force: bool) -> None:
    """Write a whole output, in pieces, compressed if its name says so. Standard output is never compressed."""
    data = (piece.encode("utf-8") for piece in text)
    write_bytes(_compressed(data) if target != STREAM and _is_compressed(target) else data, target, force=force)


def _compressed(data: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a gzip file without a timestamp: the same detections give the same file."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    for piece in data:
        yield packer.compress(piece)
    yield packer.flush()


def write_bytes(data: Iterable[bytes], target: str, *, force: bool) -> None:
    """Write a whole output, given in pieces, or none of it.

    A file is written under another name beside the target, then moved there in one step that fails if, without
    ``force``, a file of that name has appeared meanwhile.
    """
    if target == STREAM and sys.stdout is None:
        raise CommandError("standard output: cannot be written: it is closed")
    try:
        if target == STREAM:
            for piece in data:
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        else:
            _write_file(data, target, force=force)
    except BrokenPipeError:  # the reader has closed the pipe (anyops nms ... | head): the command ends quietly
        raise
    except FileExistsError:
        raise _already_there(target) from None
    except OSError as error:
        name = "standard output" if target == STREAM else target
        if target == STREAM:  # what could not be written is still buffered: Python would try again, and fail, at exit
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise CommandError(f"{name}: cannot be written: {error.strerror}") from None


def _already_there(target: str) -> CommandError:
    return CommandError(f"{target}: exists already; --force replaces it")


def _write_file(data: Iterable[bytes], target: str, *, force: bool) -> None:
    path = Path(target).resolve()  # through a symbolic link, which then stays one
    temporary = path.with_name(f".anyops-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.writelines(data)
            stream.flush()
            os.fsync(stream.fileno())
        if force:
            if path.exists():
                shutil.copymode(path, temporary)
            temporary.replace(path)
        else:
            _move_to_free_name(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _move_to_free_name(temporary: Path, path: Path) -> None:
    """Move a file to a name that must be free; raise ``FileExistsError`` if it is not."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: take the name first, which fails if it is taken
        path.touch(exist_ok=False)
        try:
            temporary.replace(path)
        except BaseException:
            path.unlink()
            raise
