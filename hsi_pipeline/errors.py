"""What a user can get wrong, said in one or two lines."""


class InputError(ValueError):
    """A file, option or combination of them that cannot be worked with.

    The message says what was asked, what was found and what to do. The command line prints it
    without a traceback and ends with exit code 2; programs may catch it as a `ValueError`.
    """


class WindowError(InputError):
    """A window of a scene that cannot be read, however often it is tried."""

    def __init__(self, message: str, chunk: tuple[int, int] = (0, 0)) -> None:
        """Say which window; `chunk` is the row and column of its chunk in the class map."""
        super().__init__(message)
        self.chunk = chunk


class SourceChangedError(InputError):
    """A scene that was written to while it was read."""


class TargetError(InputError):
    """A place of results that cannot be read or written."""
