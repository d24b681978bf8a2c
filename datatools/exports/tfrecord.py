"""TFRecord files of `tf.train.Example` messages, for TensorFlow, JAX and DALI."""

from pathlib import Path
from typing import Any

import numpy as np

from datatools.errors import DataError
from datatools.exports.base import Batch, Layout
from datatools.exports.metadata import flat_row


class TFRecord(Layout):
    """Files faces-00000-of-00006.tfrecord ...; docs/exports.md lists the features of an example.

    They are `image/encoded`, `image/format`, `image/height`, `image/width`, and each known value of the metadata.
    """

    part_images = 1000

    def check(self) -> None:
        try:
            import tfrecord  # noqa: F401
        except ImportError as error:
            raise DataError("TFRecord files need one more package: pip install 'celebahq[tfrecord]'") from error

    def write_part(self, folder: Path, batch: Batch) -> list[str]:
        from tfrecord import TFRecordWriter

        name = f"faces-{batch.part.number:05}-of-{batch.part.count:05}.tfrecord"
        options = batch.contents.options
        writer = TFRecordWriter(str(folder / name))
        try:
            for picture in batch.pictures:
                values = {
                    "image/encoded": picture.data,
                    "image/format": options.picture_format,
                    "image/height": options.resolution,
                    "image/width": options.resolution,
                    **flat_row(picture.row),
                }
                writer.write({key: _feature(value) for key, value in values.items() if value is not None})
        finally:
            writer.close()
        return [name]


def _feature(value: Any) -> tuple[Any, str]:
    """Return a value and its kind: bytes, int64, or float32, of arrays all numbers in order."""
    if isinstance(value, str | bytes):
        return (value.encode() if isinstance(value, str) else value), "byte"
    numbers = np.ravel(value)
    return numbers.tolist(), "int" if numbers.dtype.kind in "iu" else "float"
