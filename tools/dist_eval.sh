#!/usr/bin/env bash
# Runs `anomaly evaluate` on one process per GPU (or per CPU worker): dist_eval.sh CONFIG CHECKPOINT GPUS [ARGUMENTS OF anomaly evaluate].
# For several machines, call it on each with NNODES and its NODE_RANK, and with the MASTER_ADDR and PORT of the first.
# PYTHON is the interpreter.
exec bash "$(dirname "$0")/dist.sh" "$0" "anomaly evaluate" ood_eval.py 2 "$@"
