"""`datatools.text`: numbers with their nouns, sizes, times, rates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datatools.text import byte_size, counted, duration, each_text, rate_text, score_text, shorten


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "photo", "0 photos"),
        (1, "photo", "1 photo"),
        (2, "entry", "2 entries"),
        (1, "entry", "1 entry"),
        (3, "day", "3 days"),
        (30_000, "image", "30,000 images"),
    ],
)
def test_counted(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text


def test_nouns_with_a_plural_of_their_own() -> None:
    assert [counted(number, "box of", "boxes of") for number in (1, 2)] == ["1 box of", "2 boxes of"]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (61_440, "61.4 kB"),
        (999_600, "1 MB"),
        (125_829_120_000, "126 GB"),
        (2.5e12, "2.5 TB"),
    ],
)
def test_byte_size(count: float, text: str) -> None:
    assert byte_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 s"),
        (0.00042, "0.42 ms"),
        (0.0371, "37 ms"),
        (0.0996, "0.10 s"),
        (0.417, "0.42 s"),
        (9.997, "10.0 s"),
        (59.96, "1 min 00 s"),
        (245.2, "4 min 05 s"),
        (3599.7, "1 h 00 min"),
        (36_190, "10 h 03 min"),
        (4_000_000, "1,111 h 07 min"),
        (35_999_900, "9,999 h 58 min"),
        (36_000_000, "1.1 years"),
        (1e11, "3,168.8 years"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_scores_and_rates() -> None:
    scores = (-1.12249, 0.5442, 30.0, 0.0, 4.173e-06, -4.173e-06, 0.00005001, float("nan"))
    texts = ["-1.1225", "0.5442", "30.0000", "0.0000", "< 0.0001", "> -0.0001", "0.0001", "-"]
    assert [score_text(score) for score in scores] == texts
    assert rate_text(212, 0.02) == "10,600"
    assert rate_text(80, 61.2) == "1.31"
    assert rate_text(80, 0.0) == "-"
    assert [each_text(80, 61.2), each_text(212, 0.02), each_text(0, 1.0), each_text(3, 0.0)] == [
        "0.77 s",
        "0.094 ms",
        "-",
        "-",
    ]


@given(text=st.text(max_size=80), length=st.integers(1, 60))
def test_shortened_text_is_one_line_of_at_most_that_length(text: str, length: int) -> None:
    short = shorten(text, length)
    assert len(short) <= length
    assert len(short.splitlines()) <= 1
    if len(text) <= length and text == " ".join(text.split()):
        assert short == text
