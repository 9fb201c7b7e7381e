"""The exception for input that the user can correct."""


class InputError(ValueError):
    """Invalid input that the user can correct, such as a missing file, an unknown name or an undefined label value.

    The message is one or two sentences. It names the file or argument and says what was expected, what was found and
    what to do. The commands print it without a traceback and exit with status 2.
    """
