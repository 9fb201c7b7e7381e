"""Commands on many processes: where a launcher says so, how they meet, and how one failure ends them all."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

from anomaly.cli import process
from anomaly.cli.parser import option_of
from anomaly.errors import InputError
from anomaly.utils.optional import needs
from anomaly.utils.processes import ALONE, PATIENCE, Processes, apart

LAUNCHERS = ("none", "pytorch", "slurm", "mpi")
MEETING = timedelta(minutes=2)
"""How long a process waits for the others to start."""
LOST = 3.0
"""Seconds after a failed exchange within which the end of another process is noticed."""
HINT = 20.0
"""Seconds after which a process says that it waits for the others to start."""
OF_PROCESS = ("given", "device", "threads", "temporary", "data_root")
"""Options that may differ from process to process; ``given`` is what the parser notes."""
GRACE = 20.0
"""Seconds that a process has to clean up once another one has failed."""


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add the option that says what started the processes."""
    help_ = "what started this command on several processes, which then share the work (docs/distributed.md)"
    parser.add_argument("--launcher", choices=LAUNCHERS, default="none", help=f"{help_} (default: none)")


@dataclass(frozen=True)
class Place:
    """The place of this process among those that a launcher started.

    Args:
        rank: Number of this process, from 0.
        size: Number of processes.
        local_rank: Number of this process on its machine, from 0.
        address: Host of process 0.
        port: Port on which process 0 can be reached.
    """

    rank: int
    size: int
    local_rank: int
    address: str
    port: int


# Variables with rank, number of processes, and rank on the machine.
_VARIABLES = {
    "pytorch": (("RANK", "WORLD_SIZE", "LOCAL_RANK"),),
    "slurm": (("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),),
    "mpi": (
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),  # Open MPI
        ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),  # MPICH and Intel MPI
    ),
}
_STARTED_BY = {"pytorch": "torchrun or tools/dist_eval.sh", "slurm": "srun", "mpi": "mpirun"}


def read_place(launcher: str, environment: Mapping[str, str]) -> Place:
    """Read the place of this process from the environment that a launcher sets.

    ``MASTER_ADDR`` and ``MASTER_PORT`` say where process 0 is. Under Slurm they default to the first node of the job
    and a port that depends on the job's number; under MPI on a single machine, to that machine.

    Args:
        launcher: ``"pytorch"``, ``"slurm"`` or ``"mpi"``.
        environment: The environment variables.

    Raises:
        InputError: A variable is missing or no number.
    """
    sets = _VARIABLES[launcher]
    names = next((names for names in sets if names[0] in environment), sets[0])
    rank, size, local_rank = (_number(launcher, name, environment) for name in names)
    if not 0 <= rank < size or local_rank < 0:
        raise InputError(
            f"--launcher {launcher}: expected a rank below the number of processes, found {names[0]}={rank} and "
            f"{names[1]}={size}; start the command with {_STARTED_BY[launcher]}"
        )
    address, port = environment.get("MASTER_ADDR"), 29500
    if launcher == "slurm":
        nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST") or "127.0.0.1"
        address = address or first_host(nodes)
        port = 20000 + (_number(launcher, "SLURM_JOB_ID", environment) if "SLURM_JOB_ID" in environment else 0) % 20000
    elif launcher == "mpi" and environment.get("OMPI_COMM_WORLD_LOCAL_SIZE", environment.get("MPI_LOCALNRANKS")) == str(
        size
    ):
        address = address or "127.0.0.1"
    if size > 1 and not address:
        raise InputError(
            f"--launcher {launcher}: expected the host of process 0 in MASTER_ADDR, found none; set it for all of them"
        )
    if launcher == "pytorch" or "MASTER_PORT" in environment:
        port = _number(launcher, "MASTER_PORT", environment)
    return Place(rank, size, local_rank, address or "", port)


def first_host(nodes: str) -> str:
    """The first host of a list of Slurm, such as ``gpu[003-010,020],login`` (``gpu003``)."""
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", nodes).partition(",")[0]


def _number(launcher: str, name: str, environment: Mapping[str, str]) -> int:
    found = environment.get(name)
    if found is None or not found.strip().isdecimal():
        what = "none" if found is None else repr(found)
        raise InputError(
            f"--launcher {launcher}: expected a number in the environment variable {name}, found {what}; start the "
            f"command with {_STARTED_BY[launcher]}, or leave --launcher out"
        )
    return int(found)


@contextmanager
def launched(args: argparse.Namespace) -> Iterator[Processes]:
    """Join the processes that ``--launcher`` started, and yield them; only process 0 prints.

    Each process uses the GPU of its number on the machine, unless ``--device`` says otherwise. Warnings and errors are
    printed once. When a process fails or is killed, all others end within seconds.

    Args:
        args: Parsed arguments with ``launcher``, and ``device`` where the command has it.

    Raises:
        InputError: The launcher's environment is missing, or the processes cannot meet.
    """
    if args.launcher == "none":
        yield ALONE
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # a lost connection is told in one sentence, not in frames
    place = read_place(args.launcher, os.environ)
    _choose_device(args, place)
    if place.size == 1:
        yield ALONE
        return
    voice = _Voice(_meet(args.launcher, place), place.rank)
    processes = Processes(place.rank, place.size).another()
    watch = _Watch(place, voice)
    with voice:
        try:
            given = {option_of(name): repr(value) for name, value in vars(args).items() if name not in OF_PROCESS}
            processes.check_same("options", given)
            yield processes
            processes.wait()
        except BaseException as error:
            watch.deaf()  # this process ends anyway, after it has said why
            lost = isinstance(error, RuntimeError) and watch.lost.wait(LOST)  # an exchange with a process that is gone
            watch.leave(done=False)
            if lost or _ended(error):
                raise _Ended(128 + signal.SIGTERM) from None
            raise
        watch.deaf()
        watch.leave(done=True)


def _meet(launcher: str, place: Place) -> Any:
    """Make the process group, and return its store.

    Raises:
        InputError: The processes cannot meet.
    """
    with needs("torch", f"--launcher {launcher}"):
        import torch.distributed as dist
    os.environ.update(MASTER_ADDR=place.address, MASTER_PORT=str(place.port))
    size = str(place.size).encode()
    waiting = f"process {place.rank} waits for the others of {place.size} at {place.address}:{place.port}"
    hint = threading.Timer(HINT, print, (waiting,), {"file": sys.stderr, "flush": True})
    hint.daemon = True
    if place.rank < 2:  # one of the two has started
        hint.start()
    try:
        store, _, _ = apart(lambda: next(dist.rendezvous("env://", place.rank, place.size, timeout=MEETING)))
        same = store.compare_set("anomaly/size", "", size.decode()) == size
        if same and store.add(f"anomaly/rank {place.rank}", 1) == 1:
            apart(
                lambda: dist.init_process_group(
                    "gloo", store=store, rank=place.rank, world_size=place.size, timeout=MEETING
                )
            )
            return store
        reason = "another number of processes elsewhere" if not same else f"two processes of rank {place.rank}"
    except (RuntimeError, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if "EADDRINUSE" in reason:
            reason = "that the port is taken (set MASTER_PORT to another), or that two processes have rank 0"
        elif any(word in reason.lower() for word in ("timed out", "timeout", "recv")):
            reason = "not all of them in time, or a different number of processes elsewhere"
    finally:
        hint.cancel()
    raise InputError(
        f"--launcher {launcher}: expected {place.size} processes to meet at {place.address}:{place.port}, found "
        f"{reason}; start each of them once"
    )


class _Ended(SystemExit):
    """This process was told to end, by its launcher or because another process failed."""


def _ended(error: BaseException | None) -> bool:
    """Whether an error comes from the end of this process, which a library may have made an error of its own."""
    while error is not None and not isinstance(error, _Ended):
        error = error.__cause__ or error.__context__
    return error is not None


def _choose_device(args: argparse.Namespace, place: Place) -> None:
    """Give the process the GPU of its number on the machine, or the only one that the launcher lets it see.

    Raises:
        InputError: The machine has fewer GPUs than processes.
    """
    if getattr(args, "device", "cpu") not in (None, "cuda"):
        return
    with needs("torch", f"--launcher {args.launcher}"):
        import torch
    if not torch.cuda.is_available():
        return  # without --device that is the CPU; --device cuda is refused where the model is loaded
    count, number = torch.cuda.device_count(), place.local_rank
    if count == 1 and os.environ.get("CUDA_VISIBLE_DEVICES"):  # as with srun --gpus-per-task 1
        number = 0
    if number >= count:
        raise InputError(
            f"process {place.rank}: expected a GPU for every process of a machine, found {count}; start fewer "
            "processes, or name one --device for all of them"
        )
    args.device = f"cuda:{number}"
    torch.cuda.set_device(number)


class _Voice:
    """What the processes print: process 0 everything, all of them each warning once, and one error.

    Args:
        store: The store of the process group.
        rank: Number of this process.
    """

    def __init__(self, store: Any, rank: int) -> None:
        self._store, self._rank = store, rank
        self._kept: list[Any] = []

    def first(self, key: str, *, gone: bool = False) -> bool:
        """Whether this process is the first to say something.

        Args:
            key: What is said.
            gone: The answer if process 0, which holds the store, has ended; it has usually said why.
        """
        try:
            return bool(self._store.compare_set(f"anomaly/{key}", "", str(self._rank)) == str(self._rank).encode())
        except RuntimeError:
            return gone

    def __enter__(self) -> None:
        self._kept = [sys.stdout, sys.stderr, warnings.showwarning]
        error = sys.stderr

        def show(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
            text = warnings.formatwarning(message, category, filename, lineno)
            if self.first(hashlib.sha256(text.encode()).hexdigest()):
                error.write(text)

        warnings.showwarning = show
        process.speaks_first = lambda: self.first("error")
        if self._rank:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # open until the process ends

    def __exit__(self, *_: object) -> None:
        sys.stdout, sys.stderr, warnings.showwarning = self._kept


class _Watch:
    """Watches the next process, in a ring, and ends this one if that dies; so all end, one after the other.

    A thread waits for the message that the next process sends when it leaves. If it is killed, its connection closes.
    A process that gets a signal tells the previous one at once, so that no process waits for another that is leaving.

    Attributes:
        lost: Set when the next process has ended before its work was done.
    """

    def __init__(self, place: Place, voice: _Voice) -> None:
        import torch.distributed as dist

        self.lost = threading.Event()
        self._place, self._voice = place, voice
        self._group = apart(lambda: dist.new_group(backend="gloo", timeout=PATIENCE))
        self._next = (place.rank + 1) % place.size
        self._told = False
        self._thread = threading.Thread(target=self._wait, name="watch", daemon=True)
        self._thread.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)

    def deaf(self) -> None:
        """Ignore further signals."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    def leave(self, *, done: bool) -> None:
        """Tell the previous process whether the work of this one is done; if so, wait for the same of the next one."""
        import torch
        import torch.distributed as dist

        if not self._told:
            self._told = True
            with suppress(RuntimeError):  # that process may be gone
                dist.send(torch.tensor([done]), (self._place.rank - 1) % self._place.size, group=self._group)
        if done:
            self._thread.join(GRACE)

    def _end(self, number: int, _: Any) -> NoReturn:
        """Handle a signal."""
        self.deaf()
        if number == signal.SIGTERM and not self.lost.is_set():
            self._say(f"process {self._place.rank} was told to end (SIGTERM)")
        self.leave(done=False)
        self._end_soon()
        raise KeyboardInterrupt if number == signal.SIGINT else _Ended(128 + number)

    def _wait(self) -> None:
        import torch
        import torch.distributed as dist

        done = torch.tensor([False])
        try:
            dist.recv(done, self._next, group=self._group)
            if done:
                return
        except RuntimeError:
            self._say(
                f"process {self._next} ended before its work was done; it may have been killed, or have used too much "
                "memory",
                gone=True,
            )
        self.lost.set()
        self._end_soon()
        os.kill(os.getpid(), signal.SIGTERM)

    def _say(self, what: str, *, gone: bool = False) -> None:
        if self._voice.first("error", gone=gone):
            os.write(2, f"error: {what}. The run ends\n".encode())

    def _end_soon(self) -> None:
        """End the process after a while, if its main thread hangs in a library."""
        timer = threading.Timer(GRACE, os._exit, (1,))
        timer.daemon = True
        timer.start()
