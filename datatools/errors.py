"""The one exception that means: the user's data or settings are at fault."""


class DataError(Exception):
    """A mistake in data or settings; the message is one line saying what is wrong and what to do.

    Command lines print it without a traceback and exit with a code other than 0.
    """
