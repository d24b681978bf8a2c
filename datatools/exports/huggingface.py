"""Parquet files with pictures as Hugging Face's `datasets` reads them, from a folder or from the Hub."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from datatools.errors import DataError
from datatools.exports.base import Batch, Contents, Layout
from datatools.pyramid.format import COLUMNS

ROW_GROUP = 100
"""Rows that a reader loads at once."""

TEXT, INTEGER, FLAG, NUMBER = ({"dtype": dtype, "_type": "Value"} for dtype in ("string", "int64", "int8", "float64"))
VALUES = {"S": TEXT, "i": INTEGER, "f": NUMBER}
POINTS = {"feature": {"feature": NUMBER, "_type": "Sequence"}, "_type": "Sequence"}
IMAGE = {"_type": "Image"}


class HuggingFace(Layout):
    """A folder data/ of Parquet files: the column `image`, and a column for each value of the metadata.

    The files belong to the split "train", or to the only one that all pictures belong to.
    """

    part_images = 1000

    def check(self) -> None:
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise DataError("Parquet files need one more package: pip install 'celebahq[huggingface]'") from error

    def write_part(self, folder: Path, batch: Batch) -> list[str]:
        import pyarrow
        import pyarrow.parquet

        part, contents = batch.part, batch.contents
        described = features(contents)
        schema = pyarrow.schema(
            {name: _arrow_type(feature) for name, feature in described.items()},
            metadata={"huggingface": json.dumps({"info": {"features": described}})},
        )
        rows = [{"image": {"bytes": picture.data, "path": picture.name}, **picture.row} for picture in batch.pictures]
        name = f"data/{contents.split}-{part.number:05}-of-{part.count:05}.parquet"
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        table = pyarrow.Table.from_pylist(rows, schema)
        pyarrow.parquet.write_table(table, path, row_group_size=ROW_GROUP, compression="none")
        return [name]

    def finish(self, folder: Path, out: Path, documents: Mapping[str, bytes]) -> None:
        # The table is in the Parquet files; a second one would be taken for another data set.
        kept = {name: data for name, data in documents.items() if not name.startswith("metadata.")}
        super().finish(folder, out, kept)


def features(contents: Contents) -> dict[str, Any]:
    """Return the columns as `datasets.Features` stores them."""
    described: dict[str, Any] = {"image": IMAGE, "file_name": TEXT, "index": INTEGER, "photo": TEXT}
    for column in COLUMNS:
        described.setdefault(column.name, POINTS if column.shape else VALUES[np.dtype(column.kind).kind])
    described |= {"split": TEXT, "picture_landmarks": POINTS}
    if contents.attribute_names:
        described["attributes"] = dict.fromkeys(contents.attribute_names, FLAG)
    if contents.classes:
        numbers = {"names": list(contents.classes), "_type": "ClassLabel"}
        described["label"] = {"feature": NUMBER, "_type": "Sequence"} if contents.weights else numbers
    return described


def _arrow_type(feature: Mapping[str, Any]) -> Any:
    import pyarrow

    kind = feature.get("_type")
    if kind == "Image":
        return pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    if kind == "Sequence":
        return pyarrow.list_(_arrow_type(feature["feature"]))
    if kind == "ClassLabel":
        return pyarrow.int64()
    if kind == "Value":
        return pyarrow.type_for_alias(feature["dtype"])
    return pyarrow.struct({name: _arrow_type(value) for name, value in feature.items()})
