#!/usr/bin/env bash
# Runs built test programs one by one: tests/run.sh PRESET [FOLDER...] (default: all). A line a program, what failed in
# full, and at the end "N passed, N failed" in test cases. Exit status 1 if anything failed.
set -uo pipefail
cd "$(dirname "$0")/.."
preset=$1
shift
folders=("$@")
if [ ${#folders[@]} -eq 0 ]; then
  for program in build/"$preset"/tests/test_*; do folders+=("${program##*/test_}"); done
fi
passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for folder in "${folders[@]}"; do
  begin=$SECONDS
  # Under a sanitizer the models' full-size recorded cases take minutes: the same code runs there at small sizes, they in release.
  exclude=()
  [ "$preset" = release ] || [ "$folder" != models ] || exclude=(--test-case-exclude='*recorded*,*full size*')
  build/"$preset"/tests/test_"$folder" "${exclude[@]}" >"$log" 2>&1
  status=$?
  counts=$(grep -aoE 'test cases: +[0-9]+ \| +[0-9]+ passed \| +[0-9]+ failed' "$log" | grep -oE '[0-9]+' | tr '\n' ' ')
  read -r _ ok bad <<<"${counts:-0 0 0}"
  # A crash prints no count, or a count without a failure: one failed case then.
  if [ "$status" -ne 0 ] && [ "${bad:-0}" -eq 0 ]; then bad=1; fi
  passed=$((passed + ${ok:-0})) failed=$((failed + ${bad:-0}))
  echo "[$preset] $folder: ${ok:-0} passed, ${bad:-0} failed ($((SECONDS - begin)) s)"
  if [ "$status" -ne 0 ]; then cat "$log"; else grep -aoE '.*SKIPPED.*|device under test: .*' "$log" | sort -u || true; fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
