// Takes the best part of each sequence as its token, notes it in the history, and, with `advance`, moves the batch on by one
// token, so that the next step can be launched before this one is read back: token, position, length and slot.
//   best [sequences, parts] of (ordered value, token, flag, 0); history [historySteps, historyWidth] of (token, flag), a ring.
// A warp takes a sequence: grid (sequences).
#include "parameters.cuh"
#include "device.cuh"

KERNEL(select_token, SelectParameters, 32) {
  letNextStart();
  const unsigned sequence = blockIdx.x, lane = threadIdx.x;
  waitForPrevious();
  uint4 chosen = make_uint4(0, 0xffffffffu, 0, 0);
  for (unsigned part = lane; part < p.parts; part += 32) {
    const uint4 other = p.best[sequence * p.parts + part];
    const unsigned flags = chosen.z | other.z;
    if (other.x > chosen.x || (other.x == chosen.x && other.y < chosen.y)) chosen = other;
    chosen.z = flags;
  }
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) {
    const unsigned key = __shfl_xor_sync(0xffffffffu, chosen.x, apart);
    const unsigned token = __shfl_xor_sync(0xffffffffu, chosen.y, apart);
    chosen.z |= __shfl_xor_sync(0xffffffffu, chosen.z, apart);
    if (key > chosen.x || (key == chosen.x && token < chosen.y)) {
      chosen.x = key;
      chosen.y = token;
    }
  }
  if (lane != 0) return;
  const BatchHeader& header = *p.header;
  // With nothing finite in the row there is no token; 0 and the flag say so.
  const unsigned token = chosen.x == 0 ? 0 : chosen.y;
  const unsigned step = p.batch[header.generatedAt + sequence];
  p.history[step % p.historySteps * p.historyWidth + sequence] = make_uint2(token, chosen.z);
  p.batch[header.generatedAt + sequence] = step + 1;
  if (!p.advance) return;
  const unsigned length = p.batch[header.kvLengthAt + sequence];
  const int entry = p.batch[header.kvIndptrAt + sequence] + length / header.pageSize;
  p.batch[header.tokenIdsAt + sequence] = token;
  p.batch[header.positionsAt + sequence] += 1;
  p.batch[header.kvLengthAt + sequence] = length + 1;
  // After the last reserved page nothing is appended any more: the host launches no further step.
  if (entry < p.batch[header.kvIndptrAt + sequence + 1]) {
    p.batch[header.slotsAt + sequence] =
        p.batch[header.kvIndicesAt + entry] * header.pageSize + length % header.pageSize;
  }
}
