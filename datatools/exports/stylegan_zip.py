"""The archive that StyleGAN2-ADA, StyleGAN3 and EDM train from: pictures, and labels in `dataset.json`."""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from datatools.exports.base import InArchive, Named, stored_pictures, write_zip
from datatools.files import atomic_path


class StyleGANZip(InArchive):
    """A zip archive of uncompressed entries; `dataset.json` has {"labels": [[name, label], ...]}, or null for none."""

    is_file = True
    has_dataset_json = True

    def name(self, picture: Named) -> str:
        if picture.stem is not None:
            return picture.plain
        return f"{picture.number // 1000:05}/img{picture.number:08}{picture.ending}"

    def finish(self, folder: Path, out: Path, documents: Mapping[str, bytes]) -> None:
        with atomic_path(out) as temporary:
            write_zip(temporary, chain(stored_pictures(folder), documents.items()))
