#!/usr/bin/env bash
# Runs `anomaly evaluate` on one process per GPU (or per CPU worker), on this machine or on NNODES machines. For several
# machines, call it on each with its NODE_RANK and with the MASTER_ADDR and PORT of the first. PYTHON is the interpreter.
set -euo pipefail
if [[ $# -lt 3 || ! $3 =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: [PYTHON=python NNODES=1 NODE_RANK=0 MASTER_ADDR=127.0.0.1 PORT=29500] $0 CONFIG CHECKPOINT GPUS [ARGUMENTS OF anomaly evaluate]" >&2
    exit 2
fi
config=$1 checkpoint=$2 processes=$3
shift 3
meeting=(--standalone) # on one machine torch finds a free port
if [[ -n ${NNODES:-}${PORT:-} ]]; then
    meeting=(--nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}")
fi
exec "${PYTHON:-python}" -m torch.distributed.run "${meeting[@]}" --nproc-per-node="$processes" \
    "$(dirname "$0")/ood_eval.py" "$config" "$checkpoint" --launcher pytorch "$@"
