"""The same as ``anomaly fit-scores``, in a clone."""

import sys

from anomaly.cli.main import main

if __name__ == "__main__":
    main(["fit-scores", *sys.argv[1:]])
