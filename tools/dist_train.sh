#!/usr/bin/env bash
# Runs `gmmseg train` on one process per GPU (or per CPU worker): dist_train.sh CONFIG GPUS [ARGUMENTS OF gmmseg train].
# For several machines, call it on each with NNODES and its NODE_RANK, and with the MASTER_ADDR and PORT of the first.
# PYTHON is the interpreter.
exec bash "$(dirname "$0")/dist.sh" "$0" "gmmseg train" train.py 1 "$@"
