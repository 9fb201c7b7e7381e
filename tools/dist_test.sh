#!/usr/bin/env bash
# Runs `gmmseg test` on one process per GPU (or per CPU worker): dist_test.sh CONFIG CHECKPOINT GPUS [ARGUMENTS OF gmmseg test].
# For several machines, call it on each with NNODES and its NODE_RANK, and with the MASTER_ADDR and PORT of the first.
# PYTHON is the interpreter.
exec bash "$(dirname "$0")/dist.sh" "$0" "gmmseg test" test.py 2 "$@"
