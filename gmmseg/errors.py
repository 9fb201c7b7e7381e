"""The one exception for input that a user can mend."""


class InputError(ValueError):
    """Bad input: an unknown setting, a checkpoint of another network, a file that cannot be read.

    The message is one clear sentence (or two) that names the file or argument, says what was expected, what
    was found and what to do. The tools print it without a traceback and end with status 2.
    """
