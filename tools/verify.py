"""The same as ``anomaly verify``, in a clone."""

import sys

from anomaly.cli.main import main

if __name__ == "__main__":
    main(["verify", *sys.argv[1:]])
