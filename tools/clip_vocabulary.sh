#!/usr/bin/env bash
# Puts CLIP's vocabulary (MIT, OpenAI; not part of this tree) into build/clip/, from the package open_clip_torch on PyPI,
# and checks its hash. Needed by whoever loads CLIP's or MoCLIP's public weights; the default bundle has its own.
# Quiet when it is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
name=bpe_simple_vocab_16e6.txt.gz
hash=924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a
target=build/clip/$name
matches() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = $hash ]; }
matches "$target" && exit 0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() {
  echo "clip_vocabulary.sh: $1; get $name from CLIP's repository and name it with --vocab, or put it at $target" >&2
  exit 1
}
wheel=$(curl -fsS -m 60 https://pypi.org/simple/open-clip-torch/ |
  grep -oE 'href="[^"#]*open_clip_torch-3\.3\.0-py3-none-any\.whl' | head -n 1 | cut -d'"' -f2) || fail "PyPI cannot be reached"
[ -n "$wheel" ] || fail "PyPI does not list open_clip_torch 3.3.0"
curl -fsS -m 300 -o "$scratch/wheel" "$wheel" || fail "$wheel cannot be fetched"
unzip -p "$scratch/wheel" "open_clip/$name" >"$scratch/$name" 2>/dev/null || fail "the package has no open_clip/$name"
matches "$scratch/$name" || fail "the package's $name is not the one that CLIP was trained with"
mkdir -p build/clip
mv "$scratch/$name" "$target.tmp" && mv "$target.tmp" "$target"
echo "CLIP's vocabulary: $target"
