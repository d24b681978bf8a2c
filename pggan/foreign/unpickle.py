"""Read pickles of weights without running anything that they name.

A pickle is a program: it names functions and classes, and calls them. Here a name is looked up in a table of stand-ins
that only build arrays, dictionaries and records of what was stored; any other name ends the reading. Nothing is
imported, and no class of NumPy or PyTorch takes part, so that sizes are checked before memory is used for them.
"""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

DTYPES = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"})
UNUSED = {
    *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.PERSID),
    *(pickle.DICT, pickle.ADDITEMS, pickle.FROZENSET),
    *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
}
"""Opcodes that no weight file needs."""


Globals = Mapping[str, Callable[..., Any]]
"""Stand-ins by "module name": each is called with what a pickle would call the original with."""


class UnpickleError(Exception):
    """A pickle that is not read; the message says why, in a part of a line."""


@dataclass(frozen=True)
class Global:
    """What a pickle's global stands for: `make` is called with what the pickle would call the original with."""

    name: str
    make: Callable[..., Any]


class Stored:
    """An object whose pickle comes in two parts: what it is made with, and its state."""

    def set_state(self, state: Any) -> None:
        raise NotImplementedError

    def array(self) -> NDArray[Any]:
        raise UnpickleError(f"it has an object of the class {type(self).__name__} where numbers are expected")


@dataclass
class Record(Stored):
    """An object of another project's class: the class's full name, and the state by attributes."""

    kind: str
    state: dict[str, Any] = field(default_factory=dict)

    def set_state(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise UnpickleError(f"an object of {self.kind} has no attributes")
        self.state = state


class StateDict(dict[Any, Any], Stored):
    """A collections.OrderedDict; its attributes, which PyTorch stores versions in, are left out."""

    def set_state(self, state: Any) -> None:
        pass


@dataclass
class NumpyType(Stored):
    """A numpy.dtype of numbers."""

    code: str
    order: str = "="

    def set_state(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "=", "|"):
            raise UnpickleError(f"it has numbers in the byte order {str(order)[:20]!r}")
        self.order = order

    def resolve(self) -> np.dtype[Any]:
        if not isinstance(self.code, str) or self.code not in DTYPES:
            raise UnpickleError(f"it has an array of the type {str(self.code)[:20]!r}, which are not numbers")
        return np.dtype(self.order + self.code)


@dataclass
class NumpyArray(Stored):
    """A numpy.ndarray: the second part brings shape, type and bytes."""

    value: NDArray[Any] | None = None

    def set_state(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        if isinstance(data, str):
            data = data.encode("latin1")  # bytes of Python 2
        self.value = _from_bytes(data, kind.resolve(), _sizes(shape), "F" if fortran else "C")

    def array(self) -> NDArray[Any]:
        if self.value is None:
            raise UnpickleError("it has an array without numbers")
        return self.value


@dataclass
class Storage(Stored):
    """The numbers of one or more tensors of PyTorch; in the old container they come after the pickle."""

    kind: np.dtype[Any]
    count: int
    data: bytes | None = None


@dataclass
class TorchTensor(Stored):
    """A tensor: numbers of a storage, by offset, shape and strides in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> NDArray[Any]:
        storage = self.storage
        if storage.data is None:
            raise UnpickleError("it has a tensor without numbers")
        numbers = _from_bytes(storage.data, storage.kind, (storage.count,), "C")
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        # strides of 0 would repeat a few numbers to any size
        if 0 in self.shape or last >= storage.count or _product(self.shape) > storage.count:
            raise UnpickleError(f"it has a tensor of shape {self.shape} on {storage.count} numbers")
        steps = tuple(step * storage.kind.itemsize for step in self.strides)
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, steps, writeable=False)


def as_array(value: Any) -> NDArray[Any]:
    """Return what a pickle has as an array; UnpickleError for what is not numbers."""
    if isinstance(value, Stored):
        return value.array()
    if isinstance(value, int | float | np.generic | np.ndarray):
        return np.asarray(value)
    raise UnpickleError(f"it has {type(value).__name__} where numbers are expected")


def _from_bytes(data: Any, kind: np.dtype[Any], shape: tuple[int, ...], order: Any) -> NDArray[Any]:
    if not isinstance(data, bytes) or len(data) != _product(shape) * kind.itemsize:
        raise UnpickleError(f"it has an array of shape {shape} and other bytes than that needs")
    return np.frombuffer(data, kind).reshape(shape, order=order)


def _sizes(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple) or any(type(value) is not int or value < 0 for value in values):
        raise UnpickleError(f"it has an array of the shape {str(values)[:40]}")
    return values


def _product(shape: tuple[int, ...]) -> int:
    product = 1  # of Python's numbers, which do not overflow
    for size in shape:
        product *= size
    return product


def state_dict(*items: Any) -> StateDict:
    """Return an empty dictionary; its items come later."""
    if items:
        raise UnpickleError("it is of a version of PyTorch for Python 2")
    return StateDict()


def recorded(name: str) -> dict[str, Callable[..., Any]]:
    """Return the stand-in of a class by its full name, such as "tfutil.Network": its objects become a `Record`."""
    return {" ".join(name.rsplit(".", 1)): lambda *_: Record(name)}


def _scalar(kind: NumpyType, data: Any = None) -> Any:
    data = data.encode("latin1") if isinstance(data, str) else data
    return _from_bytes(data, kind.resolve(), (), "C")[()]


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> TorchTensor:
    if not isinstance(storage, Storage) or len(_sizes((offset, *shape))) != len(_sizes(strides)) + 1:
        raise UnpickleError("it has a tensor that is not made of numbers")
    return TorchTensor(storage, offset, shape, strides)


def _numpy_globals(module: str) -> dict[str, Callable[..., Any]]:
    return {f"{module} _reconstruct": lambda *_: NumpyArray(), f"{module} scalar": _scalar}


GLOBALS: Globals = {
    **_numpy_globals("numpy.core.multiarray"),
    **_numpy_globals("numpy._core.multiarray"),  # as NumPy 2 calls it
    "numpy ndarray": NumpyArray,
    "numpy dtype": lambda code, *_: NumpyType(code),
    "collections OrderedDict": state_dict,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch HalfStorage": lambda count: Storage(np.dtype("<f2"), count),
    "torch FloatStorage": lambda count: Storage(np.dtype("<f4"), count),
    "torch DoubleStorage": lambda count: Storage(np.dtype("<f8"), count),
    "torch IntStorage": lambda count: Storage(np.dtype("<i4"), count),
    "torch LongStorage": lambda count: Storage(np.dtype("<i8"), count),
}
"""All that a pickle may name, besides what a layout lists."""


class WeightUnpickler(pickle._Unpickler):
    """Python's unpickler with stand-ins for all globals.

    It is the one written in Python: its memo is a dictionary, which a claimed index cannot fill the memory with, and
    its table of opcodes can be changed.

    Args:
        more: stand-ins of further globals.
        storage: gives the numbers of a storage by its key; None where they come after the pickle.
    """

    stack: list[Any]  # of the base class: the objects since the last mark

    def __init__(
        self, file: BinaryIO, more: Globals = MappingProxyType({}), storage: Callable[[str], bytes] | None = None
    ) -> None:
        super().__init__(file, encoding="latin1")
        self.known = {name: Global(name, make) for name, make in {**GLOBALS, **more}.items()}
        self.storage = storage
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in of a global. Raises UnpickleError for one that is not in the table."""
        known = self.known.get(f"{module} {name}")
        if known is None:
            raise UnpickleError(
                f"its pickle names {f'{module}.{name}'[:100]!r}, which is not on the list of what may be read; "
                "nothing of it was run"
            )
        return known

    def persistent_load(self, pid: Any) -> Storage:
        """Return the storage that ("storage", type, key, device, count) names."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or type(pid[4]) is not int or pid[4] < 0:
            raise UnpickleError(f"its pickle refers to {str(pid)[:40]}, which is not a storage of PyTorch")
        _, kind, key, _, count = pid[:5]
        if not isinstance(kind, Global) or not isinstance(key, str):
            raise UnpickleError("its pickle refers to a storage of an unknown type")
        if key not in self.storages:
            storage = kind.make(count)
            if not isinstance(storage, Storage):
                raise UnpickleError(f"its pickle refers to a storage of the type {kind.name}")
            storage.data = None if self.storage is None else self.storage(key)
            self.storages[key] = storage
        return self.storages[key]

    def _call(self) -> None:
        """Replace a global and its arguments by what the global's stand-in makes of them."""
        arguments = self.stack.pop()
        called = self.stack.pop()
        if not isinstance(called, Global) or not isinstance(arguments, tuple):
            raise UnpickleError(f"its pickle calls {str(called)[:40]}, which is not a function")
        self.stack.append(called.make(*arguments))

    def _build(self) -> None:
        """Give an object its state."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Stored):
            raise UnpickleError(f"its pickle gives {type(self.stack[-1]).__name__} a state")
        self.stack[-1].set_state(state)

    def _set_items(self, items: list[Any]) -> None:
        """Add pairs to the dictionary on the stack; only texts and whole numbers may be keys.

        The hash of a tuple of tuples of ... would overflow the stack of the C code.
        """
        target, keys = self.stack[-1], items[::2]
        if not isinstance(target, dict) or any(not isinstance(key, str | int) for key in keys):
            raise UnpickleError("its pickle has a dictionary whose keys are not texts")
        target.update(zip(keys, items[1::2], strict=True))

    def _refuse(self) -> None:
        raise UnpickleError("its pickle has instructions that no weight file needs")

    dispatch: ClassVar[dict[int, Callable[..., Any]]] = {
        **pickle._Unpickler.dispatch,
        **dict.fromkeys((code[0] for code in UNUSED), _refuse),
        pickle.REDUCE[0]: _call,
        pickle.NEWOBJ[0]: _call,
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: lambda self: self._set_items([self.stack.pop(-2), self.stack.pop()]),
        pickle.SETITEMS[0]: lambda self: self._set_items(self.pop_mark()),
    }
