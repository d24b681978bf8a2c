"""A pretended accelerator: tensors without values on a device of their own, so that a CPU shows where devices mix.

Fake tensors (`torch._subclasses`) raise on an operation whose inputs lie on different devices; a dispatch mode counts
copies and waits by place. Branches on `type == "cuda"`, memory and kernels stay unseen.

This module changes PyTorch for the whole process: it is for processes of their own, see `pretended.reports_of`. It uses
private parts of PyTorch, of the version that constraints.txt pins.
"""

import json
import os
import traceback
import types
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from tests.support.paths import ROOT

NUMPY = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.uint8: np.uint8,
    torch.int64: np.int64,
    torch.bool: np.bool_,
}
HELPERS = ("pggan/transfer.py", "datatools/restore/devices.py")
"""Copies that these make count for their callers."""

COPIES = ("_to_copy", "to", "copy_")

Counts = Counter[str]


def place() -> str:
    """Return the function of this project that is at work, as "file function"."""
    for frame in reversed(traceback.extract_stack()):
        if _own(frame.filename) and not frame.filename.endswith(HELPERS):
            return f"{os.path.relpath(frame.filename, ROOT)} {frame.name}"
    return "a test"


def _own(file: str) -> bool:
    return file.startswith((f"{ROOT}/pggan", f"{ROOT}/datatools"))


class MixedDevicesError(Exception):
    pass


class Counting(TorchDispatchMode):
    """Counts copies from one kind of device to another, and waits for values, by place."""

    counts: ClassVar[Counts] = Counter()

    def __torch_dispatch__(self, function: Any, _: Any, arguments: Any = (), more: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name not in COPIES:
            # tensors of one value may lie anywhere; fake tensors themselves do not look at all inputs of convolutions
            inputs = [leaf for leaf in tree_leaves((arguments, more)) if isinstance(leaf, Tensor) and leaf.ndim]
            devices = sorted({tensor.device.type for tensor in inputs})
            if len(devices) > 1:
                raise MixedDevicesError(f"{name} mixes {' and '.join(devices)}")
            return function(*arguments, **(more or {}))
        out = function(*arguments, **(more or {}))
        source = arguments[1] if name == "copy_" else arguments[0]
        devices = [tensor.device.type for tensor in (source, out) if isinstance(tensor, Tensor)]
        if len(set(devices)) > 1 and "meta" not in devices:  # fake tensors compute shapes there
            self.counts[f"{' to '.join(devices)}: {place()}"] += 1
        return out


def register() -> torch.device:
    """Add the device to PyTorch and return it."""
    module: Any = types.ModuleType("torch.pretend")
    module.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    module.is_available = module.is_initialized = lambda: True
    module.current_device, module.device_count = lambda: 0, lambda: 1
    module._is_in_bad_fork = lambda: False
    module.manual_seed_all = lambda _: None
    _setup_privateuseone_for_python_backend("pretend", module)
    FakeTensorMode.avoid_device_init = property(lambda _: True)  # type: ignore[assignment,method-assign]
    return torch.device("pretend", 0)


def answer(name: str, value: Callable[[Tensor], Any]) -> None:
    """Let fake tensors give a value where a process would wait for one."""
    real = getattr(Tensor, name)

    def method(tensor: Tensor, *arguments: Any, **named: Any) -> Any:
        if not isinstance(tensor, FakeTensor):
            return real(tensor, *arguments, **named)
        if tensor.device.type != "cpu":
            Counting.counts[f"wait: {place()}"] += 1
        return value(tensor)

    setattr(Tensor, name, method)
    if name in vars(FakeTensor):
        setattr(FakeTensor, name, method)


def numbers(tensor: Tensor) -> Any:
    """Stand for Tensor.numpy."""
    assert tensor.device.type == "cpu", f"numpy() of a tensor on {tensor.device}"
    assert not tensor.requires_grad
    return np.ones(tuple(tensor.shape), NUMPY[tensor.dtype])


def nested(tensor: Tensor) -> Any:
    """Stand for Tensor.tolist."""
    return np.full(tuple(tensor.shape), True if tensor.dtype == torch.bool else 0.5).tolist()


def moved(network: torch.nn.Module, device: Any = None, *_: Any, memory_format: Any = None) -> torch.nn.Module:
    """Stand for Module.to, which swaps the storage of parameters: that of fake ones cannot be."""
    for part in network.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                data = parameter.detach() if device is None else parameter.detach().to(device)
                if memory_format is not None and data.ndim == 4:
                    data = data.contiguous(memory_format=memory_format)
                part._parameters[name] = torch.nn.Parameter(data, requires_grad=parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None and device is not None:
                part._buffers[name] = buffer.to(device)
    return network


class CpuGenerator(torch.Generator):
    """Stand for generators of the device, which has no random numbers."""

    def __new__(cls, _: Any = "cpu") -> "CpuGenerator":
        return super().__new__(cls, "cpu")


def reports(cases: Mapping[str, Callable[[Counts], object]]) -> None:
    """Print for each case {"counts": copies and waits by place, "error": None or what went wrong}, as JSON.

    A case gets the counter, to clear what its preparations cost.
    """
    found = {}
    for name, case in cases.items():
        counts, error = Counting.counts, None
        counts.clear()
        try:
            with FakeTensorMode(allow_non_fake_inputs=True), Counting():
                case(counts)
        except Exception as caught:  # whatever a fake tensor raises is what the test is for
            error = f"{type(caught).__name__}: {str(caught)[:300]} at {_places(caught)}"
        found[name] = {"counts": dict(sorted(counts.items())), "error": error}
    print(json.dumps(found))


def _places(error: Exception) -> list[str]:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _own(frame.filename)]
    return [f"{os.path.relpath(frame.filename, ROOT)}:{frame.lineno}" for frame in frames[-3:]]


DEVICE = register()
LIBRARY = torch.library.Library("_", "IMPL")
LIBRARY.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
answer("tolist", nested)
answer("item", lambda _: 0.5)
answer("__bool__", lambda _: True)
answer("__float__", lambda _: 0.5)
answer("numpy", numbers)
torch.nn.Module.to = moved  # type: ignore[assignment,method-assign]
torch.Generator = CpuGenerator  # type: ignore[misc]
