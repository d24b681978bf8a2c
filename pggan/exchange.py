"""Generators as programs that run without this project: ONNX, TorchScript, and what `torch.export` makes."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datatools.errors import DataError
from datatools.files import atomic_path
from pggan.media.latents import Change
from pggan.model.files import Model

ProgramFormat = Literal[".onnx", ".pt", ".pt2"]
FORMATS: tuple[str, ...] = get_args(ProgramFormat)
"""Endings of the files: ONNX, TorchScript, and an exported program of PyTorch, TorchScript's successor."""
TOLERANCE = 1e-4
"""Largest difference of a value of the images, which are in -1..1, from those of the model."""
OPSET = 18


class Program(nn.Module):
    """A model's EMA at its level: latents (n, latent_size), and labels (n, classes) if it has classes -> images.

    Images are (n, 3, r, r) float32 RGB, where -1 is black and 1 is white. `change`: what is done to latents first.
    """

    def __init__(self, model: Model, change: Change) -> None:
        super().__init__()
        self.generator, self.change, self.lod = model.ema.cpu(), change, model.lod

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.generator(self.change(latents), labels, self.lod)


def example_inputs(model: Model, count: int) -> dict[str, Tensor]:
    """Return inputs of the program for `count` images, by their names."""
    labels = model.labels(None, range(count))
    return {"latents": model.latents(range(count)), **({} if labels is None else {"labels": labels})}


def check_libraries(file_format: ProgramFormat) -> None:
    """Raise DataError where a library is missing that writes or checks the format."""
    if file_format == ".onnx":
        try:
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise DataError("ONNX files need more packages: pip install 'celebahq[onnx]'") from error


@torch.no_grad()
def write_program(path: Path, model: Model, change: Change, *, drawn: bool = False) -> float | None:
    """Write the model as a program in the format of the path's ending; return how much its images differ.

    The file is run before it gets its name, with other numbers of images than it was made with: ONNX by onnxruntime.

    Args:
        change: what is done to latents first, see `pggan.media.look.set_look`.
        drawn: whether the model draws noise: then there is nothing to compare, and None is returned.

    Raises: DataError for images that differ from the model's by more than TOLERANCE.
    """
    file_format: Any = path.suffix
    program = Program(model, change).eval()
    inputs = example_inputs(model, 2)
    program(**inputs)  # filters keep the kernels of their first call, which must be numbers, not what an export traces
    with _quiet():
        data = _encoded(program, inputs, file_format)
        difference = 0.0
        for n in (1, 3):
            inputs = example_inputs(model, n)
            expected, images = program(**inputs).numpy(), _run(data, inputs, file_format)
            if images.shape != expected.shape:
                raise DataError(f"{path}: gives images of shape {images.shape} instead of {expected.shape}")
            difference = max(difference, float(np.abs(images - expected).max()))
    if not (drawn or difference <= TOLERANCE):
        raise DataError(f"{path}: its images would differ from the model's by {difference:.2g} of a range of 2")
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return None if drawn else difference


def _encoded(program: Program, inputs: dict[str, Tensor], file_format: ProgramFormat) -> bytes:
    """Return the file's bytes."""
    buffer, values = io.BytesIO(), tuple(inputs.values())
    if file_format == ".pt":
        torch.jit.save(torch.jit.trace(program, values, check_trace=False), buffer)
        return buffer.getvalue()
    count = torch.export.Dim("n", min=1)
    exported = torch.export.export(program, values, dynamic_shapes=tuple({0: count} for _ in values), strict=False)
    if file_format == ".pt2":
        torch.export.save(exported, buffer)
        return buffer.getvalue()
    converted = torch.onnx.export(
        exported, input_names=list(inputs), output_names=["images"], dynamo=True, opset_version=OPSET, verbose=False
    )
    assert converted is not None
    return bytes(converted.model_proto.SerializeToString())


def _run(data: bytes, inputs: dict[str, Tensor], file_format: ProgramFormat) -> NDArray[np.float32]:
    """Return the images that the file makes."""
    if file_format == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        images: NDArray[np.float32] = session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
        return images
    load = torch.jit.load if file_format == ".pt" else lambda buffer: torch.export.load(buffer).module()
    return load(io.BytesIO(data))(*inputs.values()).numpy()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep PyTorch's remarks on its own exporters off the console: a user can do nothing about them."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
