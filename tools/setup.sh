#!/usr/bin/env bash
# Installs what the build needs from Debian's packages, with the argument "tests" what the tests drive besides, and with
# "fuzz" what the fuzzers need.
# Quiet and quick when nothing is missing.
set -euo pipefail
packages=(
  g++ cmake ninja-build make ccache pkg-config   # the build
  doctest-dev                                    # test harness
  libcli11-dev                                   # command-line arguments
  nlohmann-json3-dev                             # JSON
  libhwy-dev                                     # portable SIMD with run-time dispatch
  zlib1g-dev                                     # npz, gzip, PNG
  libutf8proc-dev                                # Unicode tables for the tokenizer
  libfmt-dev                                     # text formatting
  libopenmpi-dev openmpi-bin                     # training in several processes
  curl ca-certificates unzip                     # CLIP's vocabulary, from PyPI
)
if [ "${1:-}" = tests ]; then
  packages+=(chromium)                         # opens the HTML page
fi
if [ "${1:-}" = fuzz ]; then
  packages+=(clang libclang-rt-14-dev)         # libFuzzer
fi
missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
  [ "$status" = "install ok installed" ] || missing+=("$package")
done
clip_vocabulary() { "$(dirname "$0")/clip_vocabulary.sh" || true; }  # without it all but public weights works
if [ ${#missing[@]} -eq 0 ]; then
  clip_vocabulary
  exit 0
fi
echo "installing: ${missing[*]}"
sudo=""
[ "$(id -u)" -eq 0 ] || sudo=sudo
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { $sudo apt-get update && $sudo apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  cat "$log" >&2
  echo "setup.sh: could not install: ${missing[*]} (see above; try again with a working Debian mirror)" >&2
  exit 1
fi
rm -f "$log"
clip_vocabulary
