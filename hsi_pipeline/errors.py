"""What a user can get wrong, said in one or two lines."""


class InputError(ValueError):
    """A file, option or combination of them that cannot be worked with.

    The message says what was asked, what was found and what to do. The command line prints it
    without a traceback and ends with exit code 2; programs may catch it as a `ValueError`.
    """
