"""Weights of other projects' GANs, read as models of ours without running anything in their files.

docs/pretrained.md lists the projects. A further one is a module with a `Layout`, and an entry of LAYOUTS.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from datatools.errors import DataError, one_line
from pggan.foreign import gan_zoo, genforce, mmgeneration, nvidia2017, nvidia2018, rosinality, stylegan2, stylegan2_ada
from pggan.foreign.containers import is_pickled, read_pickled
from pggan.foreign.unpickle import UnpickleError
from pggan.model.files import Model

__all__ = ["LAYOUTS", "is_pickled", "read_foreign"]

LAYOUTS = (
    nvidia2018.LAYOUT,
    nvidia2017.LAYOUT,
    gan_zoo.LAYOUT,
    genforce.LAYOUT,
    genforce.INTERFACEGAN,
    mmgeneration.LAYOUT,
    stylegan2.LAYOUT,
    stylegan2_ada.LAYOUT,
    rosinality.LAYOUT,
)


def read_foreign(path: Path) -> Model:
    """Return the model of another project's file, on the CPU; `Model.untrained` names what the file lacks.

    Raises DataError, in one line, for a file of no known layout, or that is damaged.
    """
    called: set[str] = set()

    def noted(name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        def make_and_note(*arguments: Any) -> Any:
            called.add(name)
            return make(*arguments)

        return make_and_note

    known = {name: noted(name, make) for layout in LAYOUTS for name, make in layout.globals.items()}
    content = read_pickled(path, known)
    layout = next((layout for layout in LAYOUTS if layout.matches(content)), None)
    if layout is None:
        raise DataError(
            f"{path}: is not a weight file that can be read; those are of this program and of "
            f"{', '.join(layout.name for layout in LAYOUTS)}"
        )
    if others := called - layout.globals.keys():
        name = min(others).replace(" ", ".")
        raise DataError(f"{path}: is not read: its pickle names {name!r}, which no file of {layout.name} does")
    try:
        return layout.read(content)
    except (UnpickleError, DataError) as error:
        raise DataError(f"{path}: cannot be read as a file of {layout.name}: {one_line(error, 300)}") from error
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise DataError(
            f"{path}: the file of {layout.name} is damaged, or of an unknown version: {one_line(error, 100)}"
        ) from error
