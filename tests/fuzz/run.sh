#!/usr/bin/env bash
# Runs the built fuzzers: tests/fuzz/run.sh SECONDS [TARGET...] (default: all), and where FUZZ_RUNS is set at most so many
# executions of each. A line a target with the number of
# executions. New inputs are kept in build/fuzz/corpus/TARGET, what breaks a reader in build/fuzz/broken-TARGET-*.
set -uo pipefail
cd "$(dirname "$0")/../.."
seconds=$1
shift
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for folder in tests/fuzz/seeds/*/; do targets+=("$(basename "$folder")"); done
fi
status=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for target in "${targets[@]}"; do
  mkdir -p "build/fuzz/corpus/$target"
  # 1 GB: more than any reader may take for inputs of this size.
  if build/fuzz/fuzz/fuzz_"$target" -max_total_time="$seconds" -runs="${FUZZ_RUNS:--1}" -max_len=20000 -rss_limit_mb=2048 -malloc_limit_mb=1024 \
    -timeout=10 -print_final_stats=1 -artifact_prefix="build/fuzz/broken-$target-" \
    "build/fuzz/corpus/$target" "tests/fuzz/seeds/$target" >"$log" 2>&1; then
    echo "[fuzz] $target: $(grep -aoE 'number_of_executed_units: [0-9]+' "$log" | grep -oE '[0-9]+') executions, nothing found"
  else
    status=1
    echo "[fuzz] $target: broken"
    tail -40 "$log"
  fi
done
exit $status
