"""The same as ``gmmseg train``, in a clone."""

import sys

from gmmseg.cli.main import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
