"""Raw files by the globs of the parameters."""

from collections.abc import Sequence
from pathlib import Path

from stages.core.log import UserError


def found_files(folder: Path, globs: Sequence[str], parameter: str) -> list[Path]:
    """Return the files in `folder` that any of the globs matches, sorted.

    Raises:
        UserError: there is no such folder, or a glob is none; `parameter` says where it was given.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; correct ingest.folder")
    found: set[Path] = set()
    for glob in globs:
        try:
            found.update(path for path in folder.glob(glob) if path.is_file())
        except (NotImplementedError, ValueError) as error:  # What pathlib raises for such a glob.
            raise UserError(
                f"{parameter}: {glob!r} is no glob inside {folder} ({error}); write it relative "
                "to ingest.folder, such as '**/*.jsonl.gz'"
            ) from error
    return sorted(found)


def required_files(folder: Path, globs: Sequence[str], parameter: str) -> list[Path]:
    """Return the files that the globs match, in the globs' order; without a glob, none.

    Raises:
        UserError: there are globs and no file matches one; `parameter` says where they were given.
    """
    found = dict.fromkeys(path for glob in globs for path in found_files(folder, [glob], parameter))
    if globs and not found:
        raise UserError(
            f"{folder}: no file matches {', '.join(globs)}; put the files there or correct "
            f"ingest.folder or {parameter}"
        )
    return list(found)
