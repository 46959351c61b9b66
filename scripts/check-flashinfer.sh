#!/usr/bin/env bash
# What a machine with an NVIDIA GPU shows of FlashInfer's own library as the attention of the CUDA paths. Needs Node, the
# build in dist, the package koffi and modules that the loader's path has a CUDA runtime for (faultline flashinfer build, or a
# folder of them in FAULTLINE_FLASHINFER); no test runner and no Python. Every stage prints its name and how it ended; what it
# printed lies in OUT.
# Usage: scripts/check-flashinfer.sh OUT
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:?a folder for what the stages print}
mkdir -p "$out"
model=models/ishmael-7m
prompt="Call me Ishmael. Some years ago"
library="--adapter cuda --attention flashinfer"
failed=0
faultline() { node dist/cli/main.js "$@"; }

# stage NAME SECONDS COMMAND...
stage() {
  local name=$1 limit=$2 start=$SECONDS
  shift 2
  timeout "$limit" "$@" >"$out/$name.txt" 2>&1
  local code=$?
  echo "$name: exit $code, $((SECONDS - start)) s: $(tail -n 1 "$out/$name.txt" | cut -c1-200)"
  [ $code -eq 0 ] || failed=1
}
export -f faultline

command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,clocks.max.sm --format=csv,noheader

# The reference's own tokens, and the same from both paths: alone on pages of several sizes, and two prompts in a batch.
for batch in alone batch; do
  prompts="--prompt '$prompt'"
  [ $batch = batch ] && prompts="$prompts --prompt 'It was the whale'"
  eval "faultline generate --model $model $prompts --max-tokens 48 --path reference" >"$out/reference-$batch.txt" 2>/dev/null
  for path in standard fused; do
    for page in 16 5 1; do
      stage "tokens-$path-$batch-$page" 60 bash -c "faultline generate --model $model $prompts --max-tokens 48 \
        --path $path $library --page-size $page | diff - '$out/reference-$batch.txt' && echo same tokens"
    done
  done
done

# Every value of prefill and decode against the spec; a verdict of CLEAN is exit code 0.
for path in standard fused; do
  rm -rf "$out/capture-$path"
  stage "capture-$path" 60 bash -c "faultline generate --model $model --prompt '$prompt' --prompt 'The whale' \
    --max-tokens 4 --path $path $library --capture '$out/capture-$path'"
  stage "diagnose-$path" 120 bash -c "faultline diagnose '$out/capture-$path' --model $model --verbose"
done

# Speed beside that of the back end's own attention.
for attention in own flashinfer; do
  stage "bench-$attention" 200 bash -c "faultline bench engine --random qwen3-0.6b --adapter cuda --attention $attention \
    --runs 5 --json >'$out/bench-$attention.json' && cat '$out/bench-$attention.json'"
done

# Memory that kernels touch and must not, where NVIDIA's tool is installed.
if command -v compute-sanitizer >/dev/null; then
  stage memcheck 200 bash -c "compute-sanitizer --tool memcheck --error-exitcode 9 node dist/cli/main.js generate \
    --model $model --prompt '$prompt' --max-tokens 4 --path fused $library"
else
  echo "compute-sanitizer is not installed: memcheck did not run"
fi
exit $failed
