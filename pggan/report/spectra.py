"""Power spectra of generated pictures against those of reals: what the networks blur, and what they add."""

import numpy as np
from matplotlib.ticker import NullLocator, ScalarFormatter
from numpy.typing import NDArray

from datatools.webpage import DASHES, SOFT, PageFigure, Picture, add_legend, data_uri, new_plot, svg
from pggan.report.plots import COLOURS, HEIGHT, WIDTH

PICTURES = 256  # of either kind, at most: enough for curves without noise
SMALLEST = 8  # pixels: smaller pictures have too few frequencies for a curve


def radial_spectrum(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the mean power of pictures at 1, 2 ... r/2 cycles per picture, over all directions.

    Args:
        pictures: (n, r, r, 3) RGB. Their grey values in 0..1 are weighted by a Hann window, since a picture's edges do
            not continue each other.
    """
    side = pictures.shape[1]
    grey = pictures.mean(axis=3, dtype=np.float64) / 255
    window = np.outer(np.hanning(side), np.hanning(side))
    mean = (grey * window).sum(axis=(1, 2), keepdims=True) / window.sum()
    grey = (grey - mean) * window
    power = (np.abs(np.fft.fft2(grey)) ** 2).mean(axis=0) / (window**2).sum()
    cycles = np.fft.fftfreq(side, 1 / side)
    ring = np.rint(np.hypot(*np.meshgrid(cycles, cycles))).astype(int)
    sums = np.bincount(ring.ravel(), power.ravel())
    return sums[1 : side // 2 + 1] / np.bincount(ring.ravel())[1 : side // 2 + 1]


def spectrum_figure(generated: NDArray[np.uint8], reals: NDArray[np.uint8]) -> PageFigure:
    """Return the spectra of both sets, (n, r, r, 3) uint8 each, as a figure of the page."""
    ours, theirs = radial_spectrum(generated), radial_spectrum(reals)
    cycles = np.arange(1, len(ours) + 1)
    figure, axes = new_plot(WIDTH, HEIGHT)
    axes.loglog(cycles, theirs, color=SOFT, linestyle=DASHES, linewidth=1.4, label="reals")
    axes.loglog(cycles, ours, color=COLOURS[0], linewidth=1.4, label="generated")
    axes.set_xticks([2**k for k in range(len(ours).bit_length())], minor=False)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("cycles per picture")
    add_legend(figure)
    finest = slice(len(ours) // 2, None)
    ratio = float(np.sqrt(ours[finest].sum() / max(theirs[finest].sum(), np.finfo(float).tiny)))
    caption = (
        f"mean power of {len(generated)} generated and {len(reals)} real pictures by frequency. In the finest octave "
        f"the generated ones have {ratio:.2f} times the amplitude of the reals: below 1 they are blurred, above 1 noisy"
    )
    picture = Picture(data_uri(svg(figure), "svg+xml"), WIDTH, HEIGHT, f"Spectra; finest octave {ratio:.2f}")
    return PageFigure("Spectrum", f"{caption}.", (picture,))
