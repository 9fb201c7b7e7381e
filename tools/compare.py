"""The same as ``anomaly compare``, in a clone."""

import sys

from anomaly.cli.main import main

if __name__ == "__main__":
    main(["compare", *sys.argv[1:]])
