"""Write the report page of a build: static HTML with its pictures, to be opened from disk.

A report is the last step of a build that may have taken a day. What cannot be shown (a photo that is gone, a table that
cannot be read) therefore becomes a note on the page, not the end of the build.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datatools.errors import DataError
from datatools.files import atomic_path, fsync_path
from datatools.report.summary import GENERATOR, BuildSummary


def write_report(summary: BuildSummary, folder: Path) -> Path:
    """Write the report of a build into `folder`, replacing an earlier report there.

    Whole or not at all: the report is made in a temporary folder next to `folder`, then swapped in. What an interrupted
    run left is removed by the next one.

    Returns: folder / "index.html".
    Raises: DataError when `folder` contains anything other than a report; OSError when it cannot be written.
    """
    from datatools.report.page import render_page  # loads matplotlib and jinja2, which a build needs for its page alone

    folder = Path(folder).absolute()
    with _replaced_folder(folder) as temporary:
        page = render_page(summary, temporary, links_from=folder)
        with atomic_path(temporary / "index.html") as path:
            path.write_bytes(page)
    return folder / "index.html"


@contextmanager
def _replaced_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder next to `folder`, which replaces it on success and is removed on failure."""
    temporary = folder.with_name(f".{folder.name}.partial")
    previous = folder.with_name(f".{folder.name}.previous")
    if previous.exists():  # killed between the two renames below, or just after them
        if folder.exists():
            shutil.rmtree(previous)
        else:
            previous.rename(folder)
    check_replaceable(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        fsync_path(temporary)
        if folder.exists():
            folder.rename(previous)
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if previous.exists() and not folder.exists():
            previous.rename(folder)
        raise
    shutil.rmtree(previous, ignore_errors=True)
    fsync_path(folder.parent)


def check_replaceable(folder: Path) -> None:
    """Raise DataError when `folder` contains anything other than a report, which must not be deleted."""
    if not folder.exists():
        return
    page = folder / "index.html"
    is_report = page.is_file() and GENERATOR.encode() in page.read_bytes()[:2000]
    if folder.is_symlink() or not folder.is_dir() or (any(folder.iterdir()) and not is_report):
        raise DataError(f"{folder} is not an earlier report and is left alone; move it away or name another folder")
