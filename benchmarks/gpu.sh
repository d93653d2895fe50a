#!/usr/bin/env bash
# What is still to be measured on a card, in under eight minutes, into RESULTS.md; on random weights
# of the true sizes, which are made first and need no network:
#
#     benchmarks/gpu.sh                       # on the first card
#     benchmarks/gpu.sh --small out.md        # the same at small size on a CPU: does all of it run?
#
# Each part ends in time, so that the next has its own; one that fails or has no time left is named at
# the end (exit code 1), and the others are measured all the same. PYTHON= names another interpreter.
set -uo pipefail
small=
[ "${1-}" != --small ] || { small=yes; shift; }
out=$(realpath -m "${1-$(dirname "$0")/RESULTS.md}")
cd "$(dirname "$0")/.."

if [ "$small" ]; then
  export CUDA_VISIBLE_DEVICES= TORCHDYNAMO_DISABLE=1  # compiling for a CPU takes minutes
  true=(--models=embedded --device=cpu --resolution=64)
  little=(--steps=1 --rounds=1 --warm-up=1 --images=2 --inference-steps=1)
  widths=1,2 tests=tests/core/test_hardware.py
else
  true=(--models=random --device=cuda)
  little=(--steps=6 --rounds=2 --warm-up=2 --images=4 --inference-steps=25)
  widths=1,2,4,8 tests=tests
fi
python=${PYTHON-.venv/bin/python}
whole=${SECONDS_IN_ALL-470}
missed=()

part() {  # NAME SECONDS COMMAND...: no longer than that, nor than the time left
  local name=$1 most=$2 left=$((whole - SECONDS)) began=$SECONDS code=0
  shift 2
  [ "$most" -le "$left" ] || most=$left
  if [ "$most" -lt 5 ]; then
    missed+=("$name (no time left)")
    return
  fi
  echo "-- $name, at most $most s" >&2
  timeout --kill-after=5 "$most" "$@" || code=$?
  echo "-- $name: $((SECONDS - began)) s" >&2
  case $code in
    0 | 5) ;;  # 5: pytest found no test of that kind
    124 | 137) missed+=("$name (not done in $most s)") ;;
    *) missed+=("$name (exit code $code)") ;;
  esac
}

speed() {  # NAME SECONDS OPTIONS...: nothing is begun in the last third
  part "$1" "$2" "$python" -m benchmarks.speed "${true[@]}" "${little[@]}" --no-memory \
    --seconds=$(($2 * 2 / 3)) --out="$out" "${@:3}"
}

speed "LoRA on SDXL" 210 --base=sdxl --packs="$widths"
speed "LoRA on SD 1.5, compiled too" 110 --base=sd15 --packs="$widths" --compile=default
speed "small steps as CUDA graphs" 50 --models=embedded --resolution=64 --packs=1 --compile=reduce-overhead
part "tests on a card" 100 "$python" -m pytest -q -m gpu "$tests"

echo "-- all: $SECONDS s" >&2
if [ ${#missed[@]} -gt 0 ]; then
  printf 'missing: %s\n' "${missed[@]}" >&2
  exit 1
fi
