"""The same as ``gmmseg fit``, in a clone."""

import sys

from gmmseg.cli.main import main

if __name__ == "__main__":
    main(["fit", *sys.argv[1:]])
