"""The same as ``anomaly evaluate``, in a clone."""

import sys

from anomaly.cli.main import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
