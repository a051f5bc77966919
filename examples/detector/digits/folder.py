"""An output folder whose files appear together or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def check_folder(folder: Path, *, force: bool) -> None:
    """Raise if a folder cannot be created or written to or, without `force`, is not empty.

    Raises
    ------
    OSError
        With a message that says what is wrong.
    """
    place = folder if folder.exists() else folder.resolve().parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise OSError(f"{folder}: {place} is not a folder that can be written to")
    if folder.exists() and not force and any(folder.iterdir()):
        raise OSError(f"{folder}: is not empty; --force replaces the files of an earlier run")


@contextmanager
def filled_at_once(folder: Path) -> Iterator[Path]:
    """Yield an empty folder inside `folder`; its files move up at the end, or go away if there was an error."""
    new = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".anyops-", suffix=".tmp", dir=folder) as name:
            yield Path(name)
            for file in sorted(Path(name).iterdir()):
                file.replace(folder / file.name)
    except BaseException:
        if new:
            folder.rmdir()
        raise
