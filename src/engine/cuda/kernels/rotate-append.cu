// QK-norm, RoPE and the KV append of packed rows q | k | v, in one.
//   packed [rows, (heads + 2 kvHeads) · head_dim]; gains [2, head_dim] of q and k, or null; batch.positions, batch.slots
//   [rows]; rotated [rows, heads, head_dim] in any stored type; keys and values: caches; rotatedKeys [rows, kvHeads, head_dim]
//   in float32 or null.
// `lanes` lanes, a power of two, take one head of q, k or v of one row, eight channels each: grid ((heads + 2 kvHeads) /
// heads of a block, rows).
#include "elements.cuh"
#include "pages.cuh"
#include "rotation.cuh"

KERNEL(rotate_append, RotateAppendParameters, 256) {
  letNextStart();
  const unsigned chunks = p.headDim / 8, lane = threadIdx.x % p.lanes, row = blockIdx.y;
  const unsigned head = blockIdx.x * (256 / p.lanes) + threadIdx.x / p.lanes, allHeads = p.heads + 2 * p.kvHeads;
  const bool has = head < allHeads && lane < chunks;
  const bool isQuery = head < p.heads, isValue = head >= p.heads + p.kvHeads;
  const float* input = p.packed + (static_cast<size_t>(row) * allHeads + head) * p.headDim;
  TurningPart part = {}, gain = {};
  if (has && p.gains && !isValue) gain = turningPartAt(p.gains + (isQuery ? 0 : p.headDim), p.headDim, lane);
  waitForPrevious();
  if (has) part = turningPartAt(input, p.headDim, lane);
  if (p.gains) {
    const Eight own = ownOf(part);
    float squares = dot(own, own, 0.f);
    for (unsigned apart = p.lanes / 2; apart > 0; apart /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, apart);
    const float scale = rsqrtf(squares / static_cast<float>(p.headDim) + p.epsilon);
    if (!isValue) part = times(times(part, scale), gain);
  }
  if (!has) return;
  if (!isValue) {
    const float2* angles = p.angles + static_cast<size_t>(p.batch[p.header->positionsAt + row]) * (p.headDim / 2);
    const Eight rotated = rotatedPart(part, turnsAt(angles, p.headDim, lane), p.headDim, lane);
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
    return;
  }
  const unsigned kvHead = head - p.heads - p.kvHeads;
  const CacheRow to = rowOfSlot(p.addressing, *p.header, p.batch[p.header->slotsAt + row], kvHead);
  storeEight(p.format, p.values, to.value + lane, ownOf(part));
}
