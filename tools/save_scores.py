"""The same as ``anomaly save-scores``, in a clone."""

import sys

from anomaly.cli.main import main

if __name__ == "__main__":
    main(["save-scores", *sys.argv[1:]])
