// QK-norm, RoPE and the KV append of packed rows q | k | v, in one.
//   packed [rows, (heads + 2 kvHeads) · head_dim]; gains [2, head_dim] of q and k, or null; batch.positions, batch.slots
//   [rows]; rotated [rows, heads, head_dim] in any stored type; keys and values: caches; rotatedKeys [rows, kvHeads, head_dim] or null.
// A warp takes one head of q, k or v of one row: grid (heads + 2 kvHeads, rows).
#include "elements.cuh"
#include "pages.cuh"
#include "rotation.cuh"
#include "sums.cuh"

KERNEL(rotate_append, RotateAppendParameters, 32) {
  letNextStart();
  const unsigned chunks = p.headDim / 8, lane = threadIdx.x, head = blockIdx.x, row = blockIdx.y;
  const bool isQuery = head < p.heads, isValue = head >= p.heads + p.kvHeads;
  const float* input =
      p.packed + (static_cast<size_t>(row) * (p.heads + 2 * p.kvHeads) + head) * p.headDim;
  waitForPrevious();
  float scale = 1.f;
  if (p.gains && !isValue) {
    const Eight x = lane < chunks ? eightAt(FLOAT32, input, lane) : Eight{};
    scale = rsqrtf(sumOverLanes<32>(dot(x, x, 0.f)) / static_cast<float>(p.headDim) + p.epsilon);
  }
  if (lane >= chunks) return;
  if (isValue) {
    const unsigned kvHead = head - p.heads - p.kvHeads;
    const CacheRow to = rowOfSlot(p.addressing, *p.header, p.batch[p.header->slotsAt + row], kvHead);
    storeEight(p.format, p.values, to.value + lane, eightAt(FLOAT32, input, lane));
    return;
  }
  const float2* angles = p.angles + static_cast<size_t>(p.batch[p.header->positionsAt + row]) * (p.headDim / 2);
  const float* gain = p.gains ? p.gains + (isQuery ? 0 : p.headDim) : nullptr;
  const Eight rotated = rotatedEight(input, gain, angles, p.headDim, lane, scale);
  if (isQuery) {
    storeEight(p.rotatedFormat, p.rotated, (static_cast<size_t>(row) * p.heads + head) * chunks + lane, rotated);
    return;
  }
  const unsigned kvHead = head - p.heads;
  const CacheRow to = rowOfSlot(p.addressing, *p.header, p.batch[p.header->slotsAt + row], kvHead);
  storeEight(p.format, p.keys, to.key + lane, rotated);
  if (p.rotatedKeys) {
    storeEight(FLOAT32, p.rotatedKeys, (static_cast<size_t>(row) * p.kvHeads + kvHead) * chunks + lane, rotated);
  }
}
