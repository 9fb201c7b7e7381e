"""The same as ``anomaly data``, in a clone."""

import sys

from anomaly.cli.main import main

if __name__ == "__main__":
    main(["data", *sys.argv[1:]])
