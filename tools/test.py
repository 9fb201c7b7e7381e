"""The same as ``gmmseg test``, in a clone."""

import sys

from gmmseg.cli.main import main

if __name__ == "__main__":
    main(["test", *sys.argv[1:]])
