"""The same as ``anomaly control``, in a clone."""

import sys

from anomaly.cli.main import main

if __name__ == "__main__":
    main(["control", *sys.argv[1:]])
