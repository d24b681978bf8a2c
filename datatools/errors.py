"""The exception for mistakes in the user's data or settings, and other exceptions' messages on one line."""


class DataError(Exception):
    """A mistake in data or settings; the message is one line saying what is wrong and what to do.

    Command lines print it without a traceback and exit with a code other than 0.
    """


def one_line(error: BaseException, length: int | None = None) -> str:
    """Return an error's message on one line, cut to `length` characters; its type where it has no message."""
    return (" ".join(str(error).split()) or type(error).__name__)[:length]


def reason(error: BaseException) -> str:
    """Return why something failed, on one line: of an OSError what the system says, without number and file name."""
    return getattr(error, "strerror", None) or one_line(error)
