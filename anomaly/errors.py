"""The one exception for input that a user can mend."""


class InputError(ValueError):
    """Bad input: a missing file, an unknown name, a label that makes no sense.

    The message is one clear sentence (or two) that names the file or argument, says what was expected, what
    was found and what to do. The tools print it without a traceback and end with status 2.
    """
