// The greatest logit (plus noise, at a temperature) of each part of a row; equal logits: the lowest token. NaN and infinity
// would vanish in a maximum, so their bits are looked for and flagged.
//   logits [sequences, vocabulary]; sampling [sequences]; batch.qoIndptr, batch.positions; best [sequences, parts] of
//   (ordered value, token, flag, 0). A block takes a part of a sequence: grid (parts, sequences).
#include "parameters.cuh"
#include "sampling.cuh"

constexpr unsigned THREADS = 256;

KERNEL(argmax, ArgmaxParameters, 256) {
  __shared__ unsigned keys[THREADS], tokens[THREADS], flags[THREADS];
  letNextStart();
  const unsigned part = blockIdx.x, sequence = blockIdx.y, thread = threadIdx.x;
  const unsigned size = (p.vocabulary + p.parts - 1) / p.parts, end = min((part + 1) * size, p.vocabulary);
  waitForPrevious();
  const Sampling asked = p.sampling[sequence];
  const unsigned row = p.batch[p.header->qoIndptrAt + sequence + 1] - 1, position = p.batch[p.header->positionsAt + row];
  // Keys are `ordered` values, at least 1 for every finite float; 0 means none yet.
  unsigned key = 0, token = 0xffffffffu, flag = 0;
  for (unsigned i = part * size + thread; i < end; i += THREADS) {
    const float logit = p.logits[static_cast<size_t>(sequence) * p.vocabulary + i];
    if (!isFinite(logit)) {
      flag = 1;
      continue;
    }
    float value = logit;
    if (asked.temperature > 0.f) {
      if (ordered(logit) < asked.threshold) continue;
      value = logit / asked.temperature + gumbel(asked.seed, position, i);
    }
    if (ordered(value) > key) {
      key = ordered(value);
      token = i;
    }
  }
  keys[thread] = key;
  tokens[thread] = token;
  flags[thread] = flag;
  for (unsigned apart = THREADS / 2; apart > 0; apart /= 2) {
    __syncthreads();
    if (thread >= apart) continue;
    const unsigned other = thread + apart;
    if (keys[other] > keys[thread] || (keys[other] == keys[thread] && tokens[other] < tokens[thread])) {
      keys[thread] = keys[other];
      tokens[thread] = tokens[other];
    }
    flags[thread] |= flags[other];
  }
  if (thread == 0) p.best[sequence * p.parts + part] = make_uint4(keys[0], tokens[0], flags[0], 0);
}
