"""A run folder belongs to one process at a time."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from foldgym.errors import DataError, UserError

_LOCK = ".lock"


class Hold:
    """`folder`, made if it is missing, for this process alone until `release` or its end.

    Whatever ends the process gives the folder back, and processes that it began keep nothing of
    it. Raises `UserError` if another process is at work there, `DataError` if nobody may write.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as problem:
            raise DataError(f"cannot write in {folder}: {problem.strerror}") from None
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            if problem.errno not in (errno.EACCES, errno.EAGAIN):
                return  # a file system without locks: then nobody can know
            who = os.pread(self._file, 20, 0).decode(errors="replace").strip()
            self.release()
            raise UserError(
                f"{folder}: another process is at work in it (number {who or 'unknown'}); "
                "wait for its end, or choose another folder"
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Gives the folder back; safe to call twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
