"""Can a picture be attributed to the model? Distances of its own pictures and of others (StyleGAN2, figure 10)."""

import io

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from datatools.webpage import add_legend, new_plot

WIDTH, HEIGHT, DOTS, BINS = 640, 320, 144, 40
OWN, OTHER = "#1f5f99", "#d1600c"


def separation(generated: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the chance that a picture of the model is nearer than another one, 0..1; 0.5 says that nothing tells.

    Equal distances count half: the area under the ROC curve.
    """
    nearer = (generated[:, None] < others[None]).mean()
    return float(nearer + 0.5 * (generated[:, None] == others[None]).mean())


def histogram(generated: NDArray[np.float64], others: NDArray[np.float64], what: str) -> bytes:
    """Return both histograms over a logarithmic axis as a PNG file; `what`: the distance."""
    every = np.concatenate([generated, others])
    low, high = max(float(every.min()), 1e-12), max(float(every.max()), 2e-12)
    edges = np.geomspace(low * 0.99, high * 1.01, BINS + 1).tolist()
    figure, axes = new_plot(WIDTH, HEIGHT)
    axes.set_xscale("log")
    for distances, colour, label in ((generated, OWN, "generated"), (others, OTHER, "images")):
        axes.hist(
            np.maximum(distances, low), edges, color=colour, alpha=0.6, label=f"{label}, {len(distances)} pictures"
        )
    axes.set_xlabel(what)
    axes.set_ylabel("pictures")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(figure)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS, metadata={"Software": None})
    return stream.getvalue()
