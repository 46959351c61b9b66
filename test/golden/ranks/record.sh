#!/bin/sh
# Makes the recordings of this folder anew: sh record.sh PYTHON. Torch, transformers 5, safetensors and accelerate needed.
set -e
cd "$(dirname "$0")"
script=../../../scripts/record_tensor_parallel.py
for family in qwen3 llama llama-bias; do "$1" $script models/$family --random $family; done
record() { model=$1; name=$2; shift 2; "$1" $script "models/$model" "$name" $2 $3 $4 $5 $6 $7 $8 $9; }
record qwen3 clean/qwen3-2-ranks-bf16 "$1" --shards auto --ranks 2
record qwen3 clean/qwen3-4-ranks-fp32 "$1" --shards auto --ranks 4 --dtype float32 --decode 0
record llama clean/llama-4-ranks-bf16 "$1" --ranks 4
record llama-bias clean/llama-bias-2-ranks-bf16 "$1" --ranks 2
record llama-bias clean/llama-bias-2-ranks-fp32 "$1" --ranks 2 --dtype float32 --decode 0
for fault in rank-missing sum-skipped residual-per-rank column-shards-reversed row-shards-reversed gather-reversed \
  embedding-shifted logits-shifted replica-differs; do
  record llama faults/$fault "$1" --fault $fault --decode 0
done
record llama-bias faults/bias-per-rank "$1" --fault bias-per-rank --decode 0
for fault in rank-missing residual-per-rank key-heads-modulo; do
  record llama faults/$fault-4-ranks "$1" --fault $fault --ranks 4 --decode 0
done
