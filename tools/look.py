"""The same as ``anomaly look``, in a clone."""

import sys

from anomaly.cli.main import main

if __name__ == "__main__":
    main(["look", *sys.argv[1:]])
