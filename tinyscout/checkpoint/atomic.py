"""Write the files of a directory atomically: all of them or none."""
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tinyscout.checkpoint.safetensors_io import WEIGHT_FILES


@contextmanager
def atomic_directory(directory: Path | str) -> Iterator[Path]:
    """`with atomic_directory(directory) as scratch:` moves the files written to scratch into the directory at the end.

    If the disk fills up or the program is interrupted before that, an older checkpoint stays complete, and a directory
    that did not exist is removed again.
    """
    directory = Path(directory)
    existed = directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".saving-", dir=directory))
    try:
        for name in ("new", "old"):
            (scratch / name).mkdir()
        yield scratch / "new"
        _swap_files(scratch / "new", directory, scratch / "old")
    except BaseException:
        shutil.rmtree(scratch / "new" if existed else directory, ignore_errors=True)
        for folder in (scratch / "old", scratch):
            with suppress(OSError):                 # not empty only if an old file could not be moved back
                folder.rmdir()
        raise
    shutil.rmtree(scratch)


def _swap_files(new, directory, old):
    """Move the new files in and the old ones out, old weight files of any name too; undo all moves if one fails."""
    new_names = {path.name for path in new.iterdir()}
    old_names = {path.name for path in directory.iterdir()
                 if path.name in new_names or WEIGHT_FILES.fullmatch(path.name)}
    moves: list[tuple[Path, Path]] = []
    try:
        for source, target, names in [(directory, old, old_names), (new, directory, new_names)]:
            for name in sorted(names):
                moves.append((source / name, target / name))
                os.rename(source / name, target / name)
    except BaseException:
        for source, target in reversed(moves):
            if os.path.lexists(target):             # the last may not have been moved
                os.rename(target, source)
        raise
