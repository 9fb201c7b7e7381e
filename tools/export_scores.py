"""The same as ``anomaly export-scores``, in a clone."""

import sys

from anomaly.cli.main import main

if __name__ == "__main__":
    main(["export-scores", *sys.argv[1:]])
