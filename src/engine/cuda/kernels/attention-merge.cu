// Joins attention states over disjoint keys: FlashInfer's merge_states. States without keys weigh nothing; without any the
// output is 0 and its log-sum-exp minus infinity.
//   input [rows, heads, splits, head_dim] and inputLse [rows, heads, splits] as the decode kernel leaves them, or, with
//   `headsLast`, [rows, states, heads, head_dim]; output [rows, heads, head_dim]; lse [rows, heads]; log-sum-exp in base 2.
// `states` 0 stands for the splits of the batch. A block takes a head of a row: grid (heads, rows).
#include "parameters.cuh"
#include "device.cuh"

// Minus infinity may not meet itself in arithmetic; NaN stays NaN.
__device__ __forceinline__ float finiteLse(float lse) { return lse < -3e38f ? -3e38f : lse; }

KERNEL(attention_merge, MergeParameters, 64) {
  letNextStart();
  const unsigned head = blockIdx.x, row = blockIdx.y, heads = gridDim.x;
  waitForPrevious();
  const unsigned states = p.states ? p.states : p.header->splitCount, step = p.headsLast ? heads : 1;
  const size_t first = static_cast<size_t>(row) * heads * states + head * (p.headsLast ? 1 : states);
  const size_t to = static_cast<size_t>(row) * heads + head;
  float top = -3e38f, total = 0.f;
  for (unsigned s = 0; s < states; s++) top = fmaxf(top, p.inputLse[first + s * step]);
  for (unsigned s = 0; s < states; s++) total += exp2f(finiteLse(p.inputLse[first + s * step]) - top);
  const bool empty = top < -1e37f;
  for (unsigned i = threadIdx.x; i < p.headDim; i += 64) {
    float value = 0.f;
    for (unsigned s = 0; s < states; s++) {
      const size_t at = first + s * step;
      const float weight = exp2f(finiteLse(p.inputLse[at]) - top);
      // A state that weighs nothing may hold anything.
      if (weight != 0.f) value = fmaf(weight, p.input[at * p.headDim + i], value);
    }
    p.output[to * p.headDim + i] = empty ? 0.f : value / total;
  }
  if (threadIdx.x == 0) p.lse[to] = empty ? __uint_as_float(0xff800000u) : top + log2f(total);
}
