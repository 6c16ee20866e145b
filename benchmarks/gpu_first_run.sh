#!/usr/bin/env bash
# The first minutes on a GPU, in one go: benchmarks/gpu.py --short (150 s), then tests/gpu (SECONDS_OF_TESTS=240).
#   bash benchmarks/gpu_first_run.sh FOLDER [OPTIONS OF benchmarks/gpu.py, such as --published FILE]
# It leaves gpu.txt (card, versions, table), measured.json (what the choice of the way reads) and tests.txt in FOLDER.
# PYTHON names the interpreter; it needs torch with CUDA, triton, and the packages of modswap and of its tests.
set -uo pipefail
[ $# -ge 1 ] || { sed -n 2,5p "$0"; exit 2; }
mkdir -p "$1" && out=$(cd "$1" && pwd) && shift || exit
cd "$(dirname "$0")/.." || exit
python=${PYTHON:-python3}
export PYTHONUNBUFFERED=1 PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
"$python" -c 'import torch, triton, pydantic, typer, pytest, hypothesis' || exit
timeout -k 5 170 "$python" benchmarks/gpu.py --short --write "$out/measured.json" "$@" 2>&1 | tee "$out/gpu.txt"
measured=${PIPESTATUS[0]}
workers=$("$python" -c 'import os, xdist; print(f"-n {min(12, len(os.sched_getaffinity(0)))}")' 2>/dev/null)
# shellcheck disable=SC2086 # workers is two words, or none
timeout -k 5 "${SECONDS_OF_TESTS:-240}" "$python" -m pytest $workers -p no:benchmark -p no:cacheprovider -m '' -q tests/gpu 2>&1 |
  tee "$out/tests.txt"
tested=${PIPESTATUS[0]}
echo "gpu.py ended with $measured, the tests with $tested"
[ "$measured" = 0 ] && [ "$tested" = 0 ]
