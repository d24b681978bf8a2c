"""Numbers and texts for people."""

import math
import unicodedata

YEAR = 365.25 * 86400
"""Seconds."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: "1 photo", "30,000 photos", "no photos" as "0 photos".

    plural: where it is not the noun with an s, or -ies for -y.
    """
    if number == 1:
        return f"1 {noun}"
    if not plural:
        plural = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else f"{noun}s"
    return f"{number:,} {plural}"


def normal_name(name: str) -> str:
    """Return a file name as the keyboard gives it (NFC): macOS stores letters and their accents apart."""
    return unicodedata.normalize("NFC", name)


def shorten(text: str, length: int = 200) -> str:
    """Return `text` on one line, cut to `length` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def byte_size(count: float) -> str:
    """Write a number of bytes in decimal units: 950 bytes, 12.3 MB."""
    if count < 1000:
        return f"{count:.0f} bytes"
    power = min(int(math.log10(count) / 3), 5)
    scaled = count / 1000**power
    if scaled >= 999.5 and power < 5:
        power, scaled = power + 1, scaled / 1000
    return f"{scaled:.3g} {'kMGTP'[power - 1]}B"


def duration(seconds: float) -> str:
    """Write a time: 0.12 ms, 37 ms, 0.42 s, 12.3 s, 4 min 05 s, 10 h 03 min, 2.3 years."""
    if 0 < seconds < 0.0995:
        return f"{1000 * seconds:.2g} ms"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes:02} min" if hours < 10_000 else f"{seconds / YEAR:,.1f} years"


def score_text(score: float) -> str:
    """Write a score with four decimals, one that is nearer to 0 as "< 0.0001"; a dash for none."""
    if not math.isfinite(score):
        return "-"
    if score and round(score, 4) == 0:
        return "< 0.0001" if score > 0 else "> -0.0001"
    return f"{score:.4f}"


def rate_text(images: int, seconds: float) -> str:
    """Write images per second, three digits or more; a dash where there is nothing to divide."""
    if seconds <= 0 or not images:
        return "-"
    rate = images / seconds
    return f"{rate:,.0f}" if rate >= 99.95 else f"{rate:.3g}"


def each_text(images: int, seconds: float) -> str:
    """Write the time that an image took; a dash where there is nothing to divide."""
    return duration(seconds / images) if seconds > 0 and images else "-"
