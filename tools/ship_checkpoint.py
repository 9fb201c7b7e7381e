"""The same as ``gmmseg publish``, in a clone."""

import sys

from gmmseg.cli.main import main

if __name__ == "__main__":
    main(["publish", *sys.argv[1:]])
