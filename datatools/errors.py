"""The exception for mistakes in the user's data or settings, and other exceptions' messages on one line."""


def flag(name: str) -> str:
    """Return the command line's name of an option, such as --fmap-base, from the name that code has for it."""
    return "--" + name.replace("_", "-")


class DataError(Exception):
    """A mistake in data or settings; the message is one line saying what is wrong and what to do.

    Command lines print it without a traceback and exit with a code other than 0.
    """


class SettingError(DataError):
    """A setting with a wrong value, such as SettingError("fmap_base", "0: must be at least 1").

    The message names the setting as code does; command lines print `for_command_line`.
    """

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(setting, problem)
        self.setting, self.problem = setting, problem

    def __str__(self) -> str:
        return f"{self.setting} {self.problem}"

    @property
    def for_command_line(self) -> str:
        """The message with the option's name: --fmap-base."""
        return f"{flag(self.setting)} {self.problem}"


class ArrayError(DataError, ValueError):
    """An array of a wrong shape or type, given by the caller: a ValueError, too, as NumPy's own functions raise."""


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error of PyTorch says that a device has too little memory.

    cuDNN, cuBLAS and the CPU's allocator do not raise `torch.OutOfMemoryError` but a plain RuntimeError.
    """
    texts = ("ALLOC_FAILED", "can't allocate memory")
    return type(error).__name__ == "OutOfMemoryError" or any(text in str(error) for text in texts)


def one_line(error: BaseException, length: int | None = None) -> str:
    """Return an error's message on one line, cut to `length` characters; its type where it has no message."""
    return (" ".join(str(error).split()) or type(error).__name__)[:length]


def system_error(error: OSError) -> str:
    """Return what the system refused, on one line: why, and of which file."""
    return f"{reason(error)} ({error.filename})" if error.filename else reason(error)


def reason(error: BaseException) -> str:
    """Return why something failed, on one line: of an OSError what the system says, without number and file name."""
    return getattr(error, "strerror", None) or one_line(error)
