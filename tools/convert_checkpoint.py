"""The same as ``gmmseg convert``, in a clone."""

import sys

from gmmseg.cli.main import main

if __name__ == "__main__":
    main(["convert", *sys.argv[1:]])
