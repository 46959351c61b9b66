#!/usr/bin/env bash
# What a machine with an NVIDIA GPU shows of FlashInfer's own library as the attention of the CUDA paths. Needs Node, the
# build in dist and the package koffi, and FlashInfer's modules: of PYTHON, in which it is installed (they are compiled first),
# or in the folder that FAULTLINE_FLASHINFER names. No test runner. Every stage prints its name and how it ended; what it
# printed lies in OUT, the recordings of the case in OUT/case, and OUT/demo.txt tells it.
# Usage: scripts/check-flashinfer.sh OUT [PYTHON]
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:?a folder for what the stages print}
python=${2:-}
mkdir -p "$out"
model=models/ishmael-7m
prompt="Call me Ishmael. Some years ago"
library="--adapter cuda --attention flashinfer"
failed=0
. scripts/stage.sh

# diagnosed NAME EXIT CAPTURE: the verdict, and how attention rounds: the recipe tells whose kernels really ran.
diagnosed() {
  stage "diagnose-$1" 240 bash -c "faultline diagnose '$3' --model $model --verbose; code=\$?; echo; \
    [ \$code -eq $2 ] && echo 'verdict as expected' || { echo \"exit code \$code, expected $2\"; false; }"
  grep -E '^(CLEAN|FAULT|AMBIGUOUS|INCONCLUSIVE)|^  (embedding-scaled|residual-dropped|additive-constant)|o_proj\.input  |^  [a-z-]+: scores' \
    "$out/diagnose-$1.txt" | cut -c1-200 | sed 's/^/    /'
}
# speeds FILE: what the benchmark measured, in a line.
speeds() {
  node -e 'const result = JSON.parse(require("fs").readFileSync(process.argv[1]));
    const speed = ({ name, decodeTokensPerSecond: decode, prefillTokensPerSecond: prefill }) =>
      `${name}: decode ${decode.toFixed(0)}, prefill ${prefill?.toFixed(0) ?? "not measured"} tok/s`;
    console.log([result.standard, result.fused].map(speed).join("; "));' "$1"
}
export -f speeds

command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,clocks.max.sm --format=csv,noheader

# The modules of the model below and of the benchmark's.
if [ -n "$python" ]; then
  unset FAULTLINE_FLASHINFER
  stage build 600 bash -c "faultline flashinfer build --head-dim 64 128 --python '$python'"
fi

# The case itself: the standard path speaks, the fused one says "!", its recording is diagnosed, the faults are taken out.
rm -rf "$out/case"
stage demo 240 bash -c "faultline demo flashinfer --capture '$out/case'"
cat "$out/demo.txt"
for part in kernel:0 faulty:1 healed:0; do diagnosed "case-${part%:*}" "${part#*:}" "$out/case/${part%:*}"; done

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

# Every value of prefill and decode against the spec: two prompts in a batch, and 32 steps of decode across borders of pages.
for path in standard fused; do
  rm -rf "$out/capture-$path" "$out/capture-$path-long"
  stage "capture-$path" 60 bash -c "faultline generate --model $model --prompt '$prompt' --prompt 'The whale' \
    --max-tokens 4 --path $path $library --capture '$out/capture-$path'"
  diagnosed "$path" 0 "$out/capture-$path"
  stage "capture-$path-long" 60 bash -c "faultline generate --model $model --prompt '$prompt' --max-tokens 33 \
    --path $path $library --page-size 5 --capture '$out/capture-$path-long'"
  diagnosed "$path-long" 0 "$out/capture-$path-long"
done

# Speed beside that of the back end's own attention.
for attention in own flashinfer; do
  stage "bench-$attention" 200 bash -c "faultline bench engine --random qwen3-0.6b --adapter cuda --attention $attention \
    --runs 5 --json >'$out/bench-$attention.json' && speeds '$out/bench-$attention.json'"
done

# Memory that kernels touch and must not, where NVIDIA's tool is installed.
if command -v compute-sanitizer >/dev/null; then
  stage memcheck 200 bash -c "compute-sanitizer --tool memcheck --error-exitcode 9 node dist/cli/main.js generate \
    --model $model --prompt '$prompt' --max-tokens 4 --path fused $library"
else
  echo "compute-sanitizer is not installed: memcheck did not run"
fi
exit $failed
