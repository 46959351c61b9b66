#!/usr/bin/env bash
# What a machine with an NVIDIA GPU shows of the CUDA back end, in less than ten minutes. Needs Node, the build in dist and
# the package koffi; no test runner. Every stage prints its name and how it ended; what it printed lies in OUT.
# Usage: scripts/check-cuda.sh OUT
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:?a folder for what the stages print}
mkdir -p "$out"
model=models/ishmael-7m
prompt="Call me Ishmael. Some years ago"
failed=0
. scripts/stage.sh

command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,clocks.max.sm --format=csv,noheader

# The reference's own tokens, and the same from both paths with every type of cache.
faultline generate --model $model --prompt "$prompt" --max-tokens 32 --path reference >"$out/reference.txt" 2>/dev/null
for path in standard fused; do
  for cache in float32 bfloat16 float16; do
    stage "tokens-$path-$cache" 60 bash -c "faultline generate --model $model --prompt '$prompt' --max-tokens 32 \
      --path $path --adapter cuda --cache-dtype $cache 2>/dev/null | diff - '$out/reference.txt' && echo same tokens"
  done
done

# Every value of prefill and decode against the spec; a verdict of CLEAN is exit code 0.
for path in standard fused; do
  rm -rf "$out/capture-$path"
  stage "capture-$path" 60 bash -c "faultline generate --model $model --prompt '$prompt' --prompt 'The whale' \
    --max-tokens 4 --path $path --adapter cuda --cache-dtype bfloat16 --capture '$out/capture-$path'"
  stage "diagnose-$path" 120 bash -c "faultline diagnose '$out/capture-$path' --model $model"
done

# Speed: tokens per second of both paths, time per kernel, and the floor read by the same machine.
stage bench 200 bash -c "faultline bench engine --random qwen3-0.6b --adapter cuda --runs 5 \
  --json >'$out/bench.json' && cat '$out/bench.json'"

# Memory that kernels touch and must not, and races in shared memory, where NVIDIA's tool is installed.
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    stage "$tool" 90 bash -c "compute-sanitizer --tool $tool --error-exitcode 9 node dist/cli/main.js generate \
      --model $model --prompt '$prompt' --max-tokens 2 --path fused --adapter cuda"
  done
else
  echo "compute-sanitizer is not installed: memcheck and racecheck did not run"
fi
exit $failed
