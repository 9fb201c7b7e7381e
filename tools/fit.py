"""The same as ``anomaly fit``, in a clone."""

import sys

from anomaly.cli.main import main

if __name__ == "__main__":
    main(["fit", *sys.argv[1:]])
