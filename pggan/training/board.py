"""Event files for TensorBoard, written at once and without a thread, so that a failure reaches the caller."""

import io
import itertools
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from datatools.files import append_whole
from datatools.images import encode_jpeg

_numbers = itertools.count()  # two boards of a process may be made in one second


class Board:
    """One event file in `folder`; TensorBoard forgets what earlier ones have of steps from `first_step` on.

    The file is made with the first scalars. Its name has time, host and process in it, as TensorBoard expects.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        name = f"events.out.tfevents.{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self._path = folder / name
        self._heading = [
            Event(wall_time=time.time(), file_version="brain.Event:2"),
            Event(wall_time=time.time(), step=first_step, session_log=SessionLog(status=SessionLog.START)),
        ]

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Append a point to the curve of every name. Raises OSError, and then nothing was appended."""
        self._append(step, [Summary.Value(tag=tag, simple_value=float(value)) for tag, value in scalars.items()])

    def add_picture(self, step: int, name: str, picture: NDArray[np.uint8]) -> None:
        """Append a picture, (h, w, 3) RGB, as JPEG. Raises OSError, and then nothing was appended."""
        height, width = picture.shape[:2]
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encode_jpeg(picture))
        self._append(step, [Summary.Value(tag=name, image=image)])

    def close(self) -> None:
        """Nothing is left to write."""

    def _append(self, step: int, values: list[Summary.Value]) -> None:
        events = [*self._heading, Event(wall_time=time.time(), step=step, summary=Summary(value=values))]
        records = io.BytesIO()
        writer = RecordWriter(records)
        for event in events:
            writer.write(event.SerializeToString())
        self._path.parent.mkdir(exist_ok=True)
        append_whole(self._path, records.getvalue())
        self._heading = []
