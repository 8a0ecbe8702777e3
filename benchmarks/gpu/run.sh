#!/usr/bin/env bash
# Everything that needs a GPU, most valuable first, in about eleven minutes, on a bare machine: torch, transformers,
# no internet. A run cut at any minute leaves OUT/PART.json of all that was measured, and OUT/tables.md.
#
#   benchmarks/gpu/run.sh [--dry-run] [--out FOLDER] [--carried FOLDER] [PART …]
#
# --dry-run  every line at tiny size, on a CPU, with the embedded model in SmolLM2's place
# --carried  what prepare.sh collected; default benchmarks/gpu/carried
# PART       exactness throughput over_http weight_push grpo; default all, in this order
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3}
out=$root/out/gpu carried=$here/carried dry=()
parts=()
while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry=(--dry-run) ;;
    --out) out=$2; shift ;;
    --carried) carried=$2; shift ;;
    exactness | throughput | over_http | weight_push | grpo) parts+=("$1") ;;
    *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2 ;;
  esac
  shift
done
[ ${#parts[@]} -gt 0 ] || parts=(exactness throughput over_http weight_push grpo)
declare -A budget=([exactness]=90 [throughput]=130 [over_http]=100 [weight_push]=120 [grpo]=240)
mkdir -p "$out"
out=$(cd "$out" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
exec > >(tee "$out/run.log") 2>&1

# The carried wheels go beside the machine's own packages; the service asks for its own version.
site=$scratch/site
mkdir -p "$site/opera_reward-0+source.dist-info"
printf 'Metadata-Version: 2.1\nName: opera-reward\nVersion: 0+source\n' >"$site/opera_reward-0+source.dist-info/METADATA"
if compgen -G "$carried/wheels/*.whl" >/dev/null; then
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check \
    --target "$site" "$carried"/wheels/*.whl || echo "the carried wheels could not be installed" >&2
else
  echo "no wheels in $carried: over_http, weight_push and grpo need those of prepare.sh" >&2
fi
export PYTHONPATH=$site:$root/benchmarks:$root/service:$root/client:$root/cli:$root/demo:$root/rollout:$root/trainer
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1 TORCHINDUCTOR_CACHE_DIR=$scratch/inductor

model() {
  if [ ${#dry[@]} -gt 0 ]; then
    export OPERA_GPU_MODEL=$root/demo/opera_demo/model
  else
    export OPERA_GPU_MODEL=$scratch/smollm2
    "$python" -m gpu.smollm2 unpack "$carried/smollm2" "$OPERA_GPU_MODEL"
  fi
}

failed=0
for part in "${parts[@]}"; do
  rm -f "$out/$part"*.json
  echo "== $part, at most ${budget[$part]} s"
  end=$(($(date +%s) + ${budget[$part]} * (${#dry[@]} > 0 ? 20 : 1)))  # a rehearsal may have a slow machine
  if [ "$part" = grpo ] && ! model; then
    failed=1
    continue
  fi
  timeout --kill-after=5 "$((end - $(date +%s)))" "$python" -m "gpu.$part" --out "$out" --until "$end" "${dry[@]}" ||
    { echo "$part ended with $?" >&2; failed=1; }
  "$python" -m gpu.report "$out" --part "$part"
done
"$python" -m gpu.report "$out" >"$out/tables.md"
exit $failed
