"""Words for people."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: "1 photo", "30,000 photos", "no photos" as "0 photos".

    plural: where it is not the noun with an s, or -ies for -y.
    """
    if number == 1:
        return f"1 {noun}"
    if not plural:
        plural = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else f"{noun}s"
    return f"{number:,} {plural}"
