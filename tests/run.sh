#!/usr/bin/env bash
# Runs built test programs, one a core at a time: tests/run.sh PRESET [FOLDER...] (default: all). A line a program, what
# failed in full, and at the end "N passed, N failed" in test cases. Exit status 1 if anything failed.
set -uo pipefail
cd "$(dirname "$0")/.."
export preset=$1
shift
folders=("$@")
if [ ${#folders[@]} -eq 0 ]; then
  for program in build/"$preset"/tests/test_*; do folders+=("${program##*/test_}"); done
fi
logs=$(mktemp -d)
export logs
trap 'rm -rf "$logs"' EXIT

export large_cuda_cases='*<double>,*threads,*threads<float>,*every small size*,*more than one block*,nearest_code finds*,cumsum along*,max over*,find_non_finite gives*,a categorical draw is*'

# Runs one program; its report is printed in one piece, its "passed failed" is left in a file.
run_program() {
  local folder=$1 begin=$SECONDS log=$logs/$1.log exclude=() status counts ok bad
  # Under a sanitizer the models' full-size recorded cases take minutes: the same code runs there at small sizes, they in release.
  [ "$preset" = release ] || [ "$folder" != models ] || exclude=(--test-case-exclude='*recorded*,*full size*')
  # Each CUDA thread is a thread to ThreadSanitizer: what runs the same kernels in f64 or on many or large arrays is left to release.
  [ "$preset-$folder" != tsan-simt ] || exclude=(--test-case-exclude="$large_cuda_cases")
  build/"$preset"/tests/test_"$folder" "${exclude[@]}" >"$log" 2>&1
  status=$?
  counts=$(grep -aoE 'test cases: +[0-9]+ \| +[0-9]+ passed \| +[0-9]+ failed' "$log" | grep -oE '[0-9]+' | tr '\n' ' ')
  read -r _ ok bad <<<"${counts:-0 0 0}"
  # A crash prints no count, or a count without a failure: one failed case then.
  if [ "$status" -ne 0 ] && [ "${bad:-0}" -eq 0 ]; then bad=1; fi
  echo "${ok:-0} ${bad:-0}" >"$logs/$folder.counts"
  {
    echo "[$preset] $folder: ${ok:-0} passed, ${bad:-0} failed ($((SECONDS - begin)) s)"
    if [ "$status" -ne 0 ]; then cat "$log"; else grep -aoE '.*SKIPPED.*|device under test: .*' "$log" | sort -u; fi
  } >"$logs/$folder.report"
  flock "$logs" cat "$logs/$folder.report"
}
export -f run_program
printf '%s\n' "${folders[@]}" | xargs -P "$(nproc)" -I{} bash -c 'run_program {}'

passed=0 failed=0
for folder in "${folders[@]}"; do
  ok=0 bad=1  # of a program that left nothing
  [ ! -s "$logs/$folder.counts" ] || read -r ok bad <"$logs/$folder.counts"
  passed=$((passed + ok)) failed=$((failed + bad))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
