"""The same as ``anomaly report``, in a clone."""

import sys

from anomaly.cli.main import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
