"""How much detail a finished face holds: bits above the noise, over three octaves, where and in which directions it has
least.

The paper (Karras et al. 2018, appendix C) keeps the 30,000 best of 202,599 faces by a frequency-based metric that
favours a broad, radially symmetric power spectrum, and gives no formula. Ours is explained in docs/quality-score.md.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from datatools.errors import ArrayError

LEAST_SIZE = 64
"""Smaller pictures have too few frequencies for the bands."""

BANDS_PER_OCTAVE = 4
BANDS = 12
LOWEST = 2.0**-4.5
"""Lowest frequency that counts, in cycles per pixel; twelve quarter octaves reach from here (0.044) to 0.354."""

LEAST_TILE = 256
"""Least side of a tile, in pixels: smaller ones have too few frequencies in the low bands."""

TILES = 3
"""Rows and columns of tiles, each a quarter of the face's side, half overlapping: they cover the middle of the face."""

WEAK_TILES = TILES**2 * 2 // 3
"""The weakest two thirds of the tiles decide: networks that enlarge make edges sharp, and leave the skin as it was."""

SECTORS = 24
"""Directions, 7.5 degrees each, centred on the axes: mirroring and quarter turns exchange whole sectors."""

WEAK_SECTORS = SECTORS // 3
SYMMETRY_WEIGHT = 0.25
"""A band is worth its weakest third of directions, less this share of what the average direction has more."""

FREQUENCY_POWER = 5.0
"""Weight of a band: frequency**2 for the number of its frequencies, frequency**2 for the gradient (acuity), and one
power more because JPEG's block edges lie in the low bands."""

NOISE_MARGIN = 1.5
"""The white noise floor is taken off one and a half times, so that its random part cannot pass for detail."""

ROUNDING_MARGIN = 8.0
"""Detail starts this many times above the rounding noise of an enlarged picture: JPEG leaves more than rounding."""

FIRST_LINE_BAND = 3
LINE_AMPLITUDE = 0.1
LINE_MARGIN = 4.5
LINE_WEIGHT = 0.5
"""A periodic pattern above 0.074 cycles/px costs half a bit for each factor e of power by which its spectral line
stands more than e**4.5 above its surroundings, and above what a wave of a tenth of a grey level has."""

LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)
LUMA_ROUNDING = float(np.square(LUMA, dtype=np.float64).sum()) / 12
"""Variance of luma when each channel is rounded to whole numbers, in squared grey levels."""

LEAST_POWER = 1e-3
"""Added before the logarithm: a fortieth of the rounding noise, so it matters to constant pictures alone."""

FREQUENCIES = LOWEST * 2 ** ((np.arange(BANDS)[:, None] + 0.5) / BANDS_PER_OCTAVE)
"""(BANDS, 1): the middle of each band, cycles per pixel."""


@dataclass(frozen=True)
class _Polar:
    """The frequencies of an r x r picture, sorted into cells (band, sector); band number BANDS is the corners."""

    window: NDArray[np.float32]  # (r, r), squares add up to 1
    order: NDArray[np.intp]  # positions in the flattened rfft2, cell by cell
    cells: NDArray[np.intp]  # band * SECTORS + sector of each cell that has any frequency
    starts: NDArray[np.intp]  # where each begins in `order`
    sizes: NDArray[np.intp]  # how many frequencies each has
    wave_power: float  # power of the spectral line of a wave of amplitude 1


@lru_cache(maxsize=4)
def _polar(size: int) -> _Polar:
    hann = np.hanning(size)
    window = np.outer(hann, hann) / (hann**2).sum()
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    radius = np.hypot(fy, fx)
    band = np.floor(BANDS_PER_OCTAVE * np.log2(np.maximum(radius, 1e-9) / LOWEST))
    corner = radius > 0.5
    band[corner] = BANDS
    sector = np.rint(np.degrees(np.arctan2(fy, fx)) * SECTORS / 180) % SECTORS
    # Between 0.354 and 0.5 enlarged pictures have little but ringing.
    used = (band >= 0) & ((band < BANDS) | corner)
    # rfft2 holds the frequencies with fx = 0 twice, and those at 0.5 under one sign: mirrored pictures must not differ.
    used &= ((fx > 0) | (fy > 0)) & (fx < 0.5) & (fy > -0.5)
    positions = np.flatnonzero(used)
    cell = (band * SECTORS + sector).astype(np.intp).ravel()[positions]
    by_cell = np.argsort(cell, kind="stable")
    cells, starts, sizes = np.unique(cell[by_cell], return_index=True, return_counts=True)
    return _Polar(window.astype(np.float32), positions[by_cell], cells, starts, sizes, float(window.sum() ** 2 / 4))


def _spectrum(face: NDArray[np.uint8], polar: _Polar) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the natural logarithm of the typical and of the greatest power in each cell, (BANDS + 1, SECTORS) each.

    The typical power is the geometric mean, which single spectral lines hardly move, times e**gamma: the arithmetic
    mean, were the cell random. Units: squared grey levels; white noise of variance v has power v everywhere.
    """
    luma = cv2.transform(face.astype(np.float32), LUMA)
    window = polar.window
    mean = (luma * window).sum(dtype=np.float64) / window.sum(dtype=np.float64)
    waves = scipy.fft.rfft2((luma - np.float32(mean)) * window, workers=1)
    power = (waves.real**2 + waves.imag**2).ravel()[polar.order]
    log_power = np.log(power + np.float32(LEAST_POWER))
    typical = np.full((BANDS + 1, SECTORS), np.nan)
    typical.flat[polar.cells] = np.add.reduceat(log_power, polar.starts, dtype=np.float64) / polar.sizes
    # A cell without any frequency (small pictures, low bands) takes what its band has.
    typical = np.where(np.isnan(typical), np.nanmean(typical, axis=1, keepdims=True), typical) + np.euler_gamma
    greatest = np.full_like(typical, -np.inf)
    greatest.flat[polar.cells] = np.maximum.reduceat(log_power, polar.starts)
    return typical, greatest


def _tiles(face: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Return the tiles; fewer of small pictures, down to the whole one, since the low bands need LEAST_TILE pixels."""
    size = face.shape[0]
    side = max(size // 4, min(size, LEAST_TILE))
    side -= (size - side) % 2  # in the middle to the pixel: a mirrored picture has mirrored tiles
    reach = max(size // 2, side)
    reach -= (size - reach) % 2
    starts = {(size - reach) // 2 + (reach - side) * step // (TILES - 1) for step in range(TILES)}
    return [face[top : top + side, left : left + side] for top in sorted(starts) for left in sorted(starts)]


def _noise(typical: NDArray[np.float64]) -> float:
    """Return the power that counts as noise: somewhat more than the corners of the spectrum have."""
    return NOISE_MARGIN * float(np.exp(np.median(typical[BANDS])))


def _detail(typical: NDArray[np.float64], noise: float, rounding: NDArray[np.float64]) -> float:
    """Return bits above the noise, weighted over the bands; weak directions decide."""
    above = np.maximum((np.exp(typical) - noise) / rounding, 1.0)
    bits = np.sort(np.log2(above), axis=1)
    weak = bits[:, :WEAK_SECTORS].mean(axis=1)
    symmetric = np.maximum(weak - SYMMETRY_WEIGHT * (bits.mean(axis=1) - weak), 0.0)
    weights = FREQUENCIES[:, 0] ** FREQUENCY_POWER
    return float((weights * symmetric).sum() / weights.sum())


def _line(
    typical: NDArray[np.float64], greatest: NDArray[np.float64], floor: NDArray[np.float64], faint: float
) -> float:
    """Return how far the most conspicuous spectral line stands out, in factors of e of power above natural pictures.

    Its surroundings are its own cell or the next lower one (spectra fall, and they may fall steeply inside a cell), the
    noise, or the line of a barely visible wave, whichever is most.
    """
    around = np.maximum(typical, np.maximum(np.log(floor), faint))
    around[1:] = np.maximum(around[1:], around[:-1])
    return max(float((greatest - around)[FIRST_LINE_BAND:].max()) - LINE_MARGIN, 0.0)


def quality_score(face: NDArray[np.uint8]) -> float:
    """Return bits of detail per frequency: 0 for a picture without any, about 6 for the sharpest faces.

    `face`: (r, r, 3) uint8 RGB, r >= 64; the constants are tuned for r = 1024. The result is finite, never negative,
    and the same to the bit for the same pixels. Raises ArrayError for any other shape or type.
    """
    if not isinstance(face, np.ndarray) or face.dtype != np.uint8:
        raise ArrayError(f"face is {getattr(face, 'dtype', type(face).__name__)}: give a uint8 array of RGB pixels")
    if face.ndim != 3 or face.shape[2] != 3 or face.shape[0] != face.shape[1] or face.shape[0] < LEAST_SIZE:
        raise ArrayError(f"face has shape {face.shape}: give (r, r, 3) with r of at least {LEAST_SIZE}")
    # An 8-bit picture enlarged until `frequency` is its highest has rounding noise that many times as dense.
    rounding = ROUNDING_MARGIN * LUMA_ROUNDING * (0.5 / FREQUENCIES) ** 2
    details = []
    for tile in _tiles(face):
        typical, _ = _spectrum(tile, _polar(tile.shape[0]))
        details.append(_detail(typical[:BANDS], _noise(typical), rounding))
    polar = _polar(face.shape[0])
    typical, greatest = _spectrum(face, polar)
    faint = float(np.log(LINE_AMPLITUDE**2 * polar.wave_power))
    line = _line(typical[:BANDS], greatest[:BANDS], _noise(typical) + rounding, faint)
    return max(float(np.mean(np.sort(details)[:WEAK_TILES])) - LINE_WEIGHT * line, 0.0)
