"""Numbers with their nouns."""

import pytest

from datatools.text import counted


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
