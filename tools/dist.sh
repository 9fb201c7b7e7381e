#!/usr/bin/env bash
# What dist_train.sh, dist_test.sh and dist_eval.sh share: runs a tool of this folder under torchrun, on one process per GPU
# (or per CPU worker), on this machine or on NNODES machines.
# usage: dist.sh CALLER COMMAND TOOL COUNT ARGUMENTS..., with COUNT arguments (CONFIG, CHECKPOINT) before the number of GPUs
set -euo pipefail
caller=$1 command=$2 tool=$3 count=$4
shift 4
if [[ $# -le $count || ! ${*:count+1:1} =~ ^[1-9][0-9]*$ ]]; then
    first=(CONFIG CHECKPOINT)
    echo "usage: [PYTHON=python NNODES=1 NODE_RANK=0 MASTER_ADDR=127.0.0.1 PORT=29500] $caller ${first[*]:0:count} GPUS [ARGUMENTS OF $command]" >&2
    exit 2
fi
meeting=(--standalone) # on one machine torch finds a free port
if [[ -n ${NNODES:-}${PORT:-} ]]; then
    meeting=(--nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}")
fi
exec "${PYTHON:-python}" -m torch.distributed.run "${meeting[@]}" --nproc-per-node="${*:count+1:1}" \
    "$(dirname "$0")/$tool" "${@:1:count}" --launcher pytorch "${@:count+2}"
