#!/usr/bin/env bash
# Builds the operator suite, and tensors, training steps and generation on the device, with nvcc, and runs them on this
# machine's GPU, then the recorded cases, then generates a motion and times the kernels there: tests/check_gpu.sh PRESET.
# The report, with the device in its first lines and what failed in its last, is check-gpu.txt. Exit status 1 if there is
# no nvcc, no GPU, or anything that fails.
set -uo pipefail
cd "$(dirname "$0")/.."
preset=$1
report=check-gpu.txt
fail() { echo "check-gpu: $*" >&2; exit 1; }

configured=$(cmake --preset "$preset" -DMOCLIP_CUDA=ON)
grep -q '^-- CUDA: [0-9]' <<<"$configured" ||
  fail "no CUDA compiler found; install the CUDA toolkit, or name it with CUDACXX=/path/to/nvcc"
cmake --build --preset "$preset" --target test_gpu test_gpu_device program_reproduce program_generate program_bench ||
  fail "the CUDA kernels do not build"
program=build/$preset/gpu/test_gpu
bin=build/$preset/bin
motions=$(mktemp -d)
trap 'rm -rf "$motions"' EXIT
"$program" --test-case='the device under test' >"$report" 2>&1 ||
  { cat "$report"; fail "no GPU can be used here; is its driver loaded (nvidia-smi)?"; }

failed=()
# step "what it is" command...: one that fails does not keep the others from being tried.
step() {
  local what=$1
  shift
  echo "== $what"
  "$@" || failed+=("$what")
}
generate() { "$bin"/generate "a person jumps" --device cuda --out "$motions" "$@"; }
# Training with a process on each GPU, where there are several.
several_gpus() {
  if [ "$(tests/count_gpus.sh)" -lt 2 ] || ! command -v mpirun >/dev/null; then
    echo "not tried, there is one, or no mpirun"
    return 0
  fi
  cmake --build --preset "$preset" --target test_tools &&
    build/"$preset"/tests/test_tools --duration=true --test-case='mpirun: a process on each GPU*'
}
{
  grep -aoE 'device under test: .*' "$report"
  command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  git log -1 --format='commit %H' 2>/dev/null
  step "every operator" "$program" --duration=true
  step "tensors, training steps, generation" "${program}_device" --duration=true
  step "our own products, without cuBLASLt" env MOCLIP_CUBLASLT=off "$program" --test-case='matmul*,conv1d*,nearest_code*'
  step "convolutions by cuDNN, if it is there" env MOCLIP_CUDNN=on "$program" --test-case='conv1d*'
  step "the recorded cases" "$bin"/reproduce tests/reference --quiet --device cuda
  step "a motion" generate
  MOCLIP_CUDA_GRAPHS=off step "the same kernel by kernel, without graphs" generate
  step "the same in bf16" generate --precision bf16
  step "the kernels' results" "$bin"/bench --check --device cuda
  step "the kernels' times" "$bin"/bench --device cuda
  step "whole motions' times, the originals' sizes" "$bin"/bench --end-to-end --filter generate --device cuda
  step "several GPUs" several_gpus
  if [ ${#failed[@]} -eq 0 ]; then echo "check-gpu: all right"; else printf 'check-gpu: FAILED: %s\n' "${failed[@]}"; fi
  [ ${#failed[@]} -eq 0 ]
} >"$report.part" 2>&1
status=$?
mv "$report.part" "$report"
cat "$report"
exit "$status"
