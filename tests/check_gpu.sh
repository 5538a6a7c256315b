#!/usr/bin/env bash
# Builds the operator suite, and tensors, training steps and generation on the device, with nvcc, and runs them on this
# machine's GPU, then the recorded cases, then generates a motion and times the kernels there: tests/check_gpu.sh PRESET.
# The report, with the device in its first lines, is check-gpu.txt. Exit status 1 if there is no nvcc, no GPU, or
# anything that fails.
set -uo pipefail
cd "$(dirname "$0")/.."
preset=$1
report=check-gpu.txt
fail() { echo "check-gpu: $*" >&2; exit 1; }

cmake --preset "$preset" -DMOCLIP_CUDA=ON | grep -q '^-- CUDA: [0-9]' ||
  fail "no CUDA compiler found; install the CUDA toolkit, or name it with CUDACXX=/path/to/nvcc"
cmake --build --preset "$preset" --target test_gpu test_gpu_device program_reproduce program_generate program_bench ||
  fail "the CUDA kernels do not build"
# Training with a process on each GPU, where there are several.
several_gpus() {
  if [ "$(nvidia-smi --list-gpus 2>/dev/null | wc -l)" -lt 2 ] || ! command -v mpirun >/dev/null; then
    echo "several GPUs: not tried, there is one, or no mpirun"
    return 0
  fi
  cmake --build --preset "$preset" --target test_tools &&
    build/"$preset"/tests/test_tools --duration=true --test-case='mpirun: a process on each GPU*'
}
program=build/$preset/gpu/test_gpu
motions=$(mktemp -d)
trap 'rm -rf "$motions"' EXIT
"$program" --test-case='the device under test' >"$report" 2>&1 ||
  { cat "$report"; fail "no GPU can be used here; is its driver loaded (nvidia-smi)?"; }
{
  grep -aoE 'device under test: .*' "$report"
  command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  git log -1 --format='commit %H' 2>/dev/null
  "$program" --duration=true && "${program}_device" --duration=true &&
    { echo "our own products, without cuBLASLt:"; MOCLIP_CUBLASLT=off "$program" --test-case='matmul*,conv1d*,nearest_code*'; } &&
    { echo "convolutions by cuDNN, if it is there:"; MOCLIP_CUDNN=on "$program" --test-case='conv1d*'; } &&
    build/"$preset"/bin/reproduce tests/reference --quiet --device cuda &&
    build/"$preset"/bin/generate "a person jumps" --device cuda --out "$motions" &&
    { echo "the same kernel by kernel, without graphs:"; MOCLIP_CUDA_GRAPHS=off build/"$preset"/bin/generate "a person jumps" --device cuda --out "$motions"; } &&
    build/"$preset"/bin/generate "a person jumps" --device cuda --precision bf16 --out "$motions" &&
    build/"$preset"/bin/bench --check --device cuda && build/"$preset"/bin/bench --device cuda &&
    several_gpus
} >"$report.part" 2>&1
status=$?
mv "$report.part" "$report"
cat "$report"
[ "$status" -eq 0 ]
