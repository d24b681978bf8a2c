"""Say where the data sets are to be had, download them, and check what a folder has of CelebA."""

import math
from pathlib import Path

import click

from datatools.cli import OneLineCommand, PathOption, run_command
from datatools.console import check_printed
from datatools.download.archives import find_parts, unpack
from datatools.download.catalogue import DATA_SETS, DataSet, RemoteFile, data_set, lsun
from datatools.download.check import check_celeba
from datatools.download.fetch import Patience, fetch
from datatools.errors import DataError
from datatools.progress import Progress
from datatools.text import byte_size

EXAMPLES = """
\b
Examples:
  python -m datatools.download                                       # what there is, where, on which terms
  python -m datatools.download celeba --out CelebA --accept-terms
  python -m datatools.download cifar10 --out CIFAR-10
  python -m datatools.download lsun --category bedroom --out LSUN
  python -m datatools.download --check CelebA                        # what is there, what is missing
"""
MEGABYTE = 1_000_000


@click.command(cls=OneLineCommand, resumes=True, help=__doc__, epilog=EXAMPLES)
@click.argument("name", required=False, metavar="[celeba|celeba-aligned|celeba-aligned-png|cifar10|lsun]")
@click.option("--out", type=PathOption(file_okay=False), help="Folder of the data set.")
@click.option("--category", default="bedroom", show_default=True, help="Category of LSUN.")
@click.option("--accept-terms", is_flag=True, help="Agree to the terms that are printed without this option.")
@click.option("--no-unpack", is_flag=True, help="Only download.")
@click.option("--mirror", metavar="URL", help="Address of your own copy of the files, with the same paths below it.")
@click.option("--tries", type=click.IntRange(1), default=6, show_default=True, help="Failures in a row until the end.")
@click.option("--check", "checked", metavar="DIR", type=PathOption(file_okay=False), help="Check a copy of CelebA.")
@click.option("--checksums", is_flag=True, help="With --check: read the archive's parts, too; takes a minute.")
def main(
    name: str | None,
    out: Path | None,
    category: str,
    accept_terms: bool,
    no_unpack: bool,
    mirror: str | None,
    tries: int,
    checked: Path | None,
    checksums: bool,
) -> None:
    if checked is not None:
        check(checked, checksums)
        return
    if name is None:
        for each in (*DATA_SETS.values(), lsun(category)):
            describe(each)
        check_printed()
        return
    chosen = data_set(name, category)
    if out is None:
        raise DataError("--out is missing: name the folder of the data set")
    if chosen.consent and not accept_terms:
        raise DataError(f"{chosen.name}: {chosen.terms} ({chosen.page}); --accept-terms agrees to them")
    download(chosen, out, mirror, Patience(tries))
    for archive in () if no_unpack else chosen.archives:
        if (out / archive.target / archive.makes).exists():
            click.echo(f"{out / archive.target / archive.makes}: unpacked already")
            continue
        unpack_with_progress(chosen, out, archive.path, archive.target)
        click.echo(f"{out / archive.target / archive.makes}: unpacked; the archive can be deleted")
    check_printed()


def describe(each: DataSet) -> None:
    """Print what a data set is, where it is, on which terms, and how to get it."""
    consent = " --accept-terms" if each.consent else ""
    name = each.name.replace("lsun ", "lsun --category ")
    click.echo(f"{name}: {each.title}")
    click.echo(f"  for      {each.use}")
    click.echo(f"  size     {each.size}")
    click.echo(f"  page     {each.page}")
    if each.manual != each.page:
        click.echo(f"  files    {each.manual}")
    click.echo(f"  terms    {each.terms}")
    if each.on_request:
        click.echo(f"  without  {each.on_request}")
    click.echo(f"  get it   python -m datatools.download {name} --out DIR{consent}\n")


def check(folder: Path, checksums: bool) -> None:
    """Print what a folder has of CelebA; exit with 1 where a build is not possible."""
    found = check_celeba(folder, checksums=checksums)
    for line in found.lines:
        click.echo(line)
    check_printed()
    if not found.complete:
        raise SystemExit(1)


def download(chosen: DataSet, out: Path, mirror: str | None, patience: Patience) -> None:
    """Download the files of a data set, with progress."""
    for file in chosen.files:
        with _Bar(file.name) as bar:
            new = fetch(
                f"{mirror.rstrip('/')}/{file.path}" if mirror else file.url,
                out / file.path,
                size=file.size,
                checksum=file.checksum,
                manual=chosen.manual,
                watch=bar,
                patience=patience,
            )
        click.echo(_done(out / file.path, file, new))


def _done(path: Path, file: RemoteFile, new: bool) -> str:
    kind = file.checksum.partition(":")[0].upper()
    checked = f"{kind} as published" if kind else "no published checksum to compare"
    return f"{path}: {byte_size(path.stat().st_size)}, {'downloaded' if new else 'there already'}, {checked}"


def unpack_with_progress(chosen: DataSet, out: Path, archive: str, target: str) -> None:
    """Unpack an archive of a data set."""
    path = out / archive
    parts = find_parts(path)
    checksums = {file.name: file.checksum for file in chosen.files if file.checksum}
    done = 0
    with _Bar(f"unpack {path.name}") as bar:
        total = sum(part.stat().st_size for part in parts)

        def report(size: int) -> None:
            nonlocal done
            done += size
            bar(done, total)

        unpack(path, out / target, checksums=checksums, report=report)


class _Bar:
    """Progress in megabytes, which begins when the size is known."""

    def __init__(self, what: str) -> None:
        self._what, self._shown = what, 0
        self._progress: Progress | None = None

    def __enter__(self) -> "_Bar":
        return self

    def __call__(self, done: int, total: int | None) -> None:
        megabytes = done // MEGABYTE
        if self._progress is None:
            whole = None if total is None else math.ceil(total / MEGABYTE)
            self._progress = Progress(f"{self._what}, MB", whole, initial=megabytes)
            self._progress.__enter__()
            self._shown = megabytes
        self._progress(megabytes - self._shown)
        self._shown = megabytes

    def __exit__(self, *exception: object) -> None:
        if self._progress is not None:
            self._progress.__exit__(*exception)


def script() -> None:
    """Run the console script `celebahq-download`."""
    run_command(main)


if __name__ == "__main__":
    script()
