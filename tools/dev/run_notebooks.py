"""Run notebooks from start to end, and store their outputs in them.

Example:
    python tools/dev/run_notebooks.py notebooks/02_mixture_from_scratch.ipynb
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from anomaly.cli.parser import command_parser
from anomaly.cli.process import run
from anomaly.errors import InputError
from anomaly.utils.files import write_whole

ROOT = Path(__file__).resolve().parents[2]
KERNEL: dict[str, Any] = {"timeout": 240, "extra_arguments": ["--log-level=40"]}  # seconds per cell; only errors


def execute(path: Path, working_directory: Path) -> Any:
    """Run every cell in a fresh kernel that keeps its own files in a temporary folder.

    Args:
        path: The notebook; it is not changed.
        working_directory: Working directory of the kernel.

    Returns:
        The notebook (``nbformat``) with its outputs, which do not depend on time and place.

    Raises:
        InputError: A cell fails, the notebook does not exist, or packages are missing.
    """
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
    except ImportError as error:
        raise InputError(
            f"notebooks need the package {error.name!r}, which is not installed; install it with: pip install -e "
            "'.[notebooks]'"
        ) from error
    if not path.is_file():
        raise InputError(f"{path}: expected a notebook, found no such file; name one of notebooks/")
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as own:
        caches = dict.fromkeys(("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "TORCHINDUCTOR_CACHE_DIR"), own)
        environment = {**os.environ, **caches, "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        client = NotebookClient(notebook, kernel_name="python3", record_timing=False, **KERNEL)
        try:
            client.execute(cwd=str(working_directory), env=environment)
        except CellExecutionError as error:
            raise InputError(f"{path.name}: a cell fails, correct it: {error.ename}: {error.evalue}") from error
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{i}"
        for output in cell.get("outputs", []):
            output.get("metadata", {}).clear()
            for kind, text in output.get("data", {}).items():
                if kind.startswith("text/"):  # pandas gives its styles an identifier for each run
                    output["data"][kind] = re.sub(r"<style scoped>.*?</style>\n?", "", text, flags=re.S)
    return notebook


def main() -> None:
    """Run notebooks one after the other; each is replaced after it has run."""
    parser = command_parser(__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="notebooks to run (default: all in notebooks/)")
    for path in parser.parse_args().notebooks or sorted((ROOT / "notebooks").glob("*.ipynb")):
        started = time.monotonic()
        notebook = execute(path, path.resolve().parent)
        import nbformat

        write_whole(path, partial(nbformat.write, notebook))
        print(f"{path.name}: {time.monotonic() - started:.0f} s, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    run(main)
