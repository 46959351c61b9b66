// The smallest set of most likely tokens whose probability reaches top-p (nucleus sampling, Holtzman et al. 2019), as a
// threshold on the logit: a radix search, 8 bits a round, over probability mass in fixed point (2^-31), which does not
// depend on the order of addition.
//   logits [sequences, vocabulary]; sampling [sequences]. A block takes a sequence: grid (sequences).
#include "parameters.cuh"
#include "sampling.cuh"

constexpr unsigned THREADS = 256;

KERNEL(top_p, TopPParameters, 256) {
  __shared__ unsigned bins[256], prefix, massAbove;
  __shared__ float values[THREADS];
  letNextStart();
  const unsigned thread = threadIdx.x;
  const float* logits = p.logits + static_cast<size_t>(blockIdx.x) * p.vocabulary;
  waitForPrevious();
  const Sampling asked = p.sampling[blockIdx.x];
  if (asked.temperature <= 0.f || asked.topP >= 1.f) {
    if (thread == 0) p.sampling[blockIdx.x].threshold = 0;
    return;
  }
  float top = -3e38f;
  for (unsigned i = thread; i < p.vocabulary; i += THREADS) {
    if (isFinite(logits[i])) top = fmaxf(top, logits[i]);
  }
  values[thread] = top;
  for (unsigned apart = THREADS / 2; apart > 0; apart /= 2) {
    __syncthreads();
    if (thread < apart) values[thread] = fmaxf(values[thread], values[thread + apart]);
  }
  __syncthreads();
  top = values[0];
  __syncthreads();
  float sum = 0.f;
  for (unsigned i = thread; i < p.vocabulary; i += THREADS) {
    if (isFinite(logits[i])) sum += expf((logits[i] - top) / asked.temperature);
  }
  values[thread] = sum;
  for (unsigned apart = THREADS / 2; apart > 0; apart /= 2) {
    __syncthreads();
    if (thread < apart) values[thread] += values[thread + apart];
  }
  if (thread == 0) prefix = massAbove = 0;
  __syncthreads();
  const float unit = 2147483648.f / values[0];
  const unsigned wanted = static_cast<unsigned>(fminf(fmaxf(asked.topP, 0.f), 1.f) * 2147480000.f);
  for (unsigned round = 0; round < 4; round++) {
    const unsigned shift = 24 - 8 * round;
    bins[thread] = 0;
    __syncthreads();
    const unsigned known = prefix;
    for (unsigned i = thread; i < p.vocabulary; i += THREADS) {
      const unsigned key = ordered(logits[i]);
      if (!isFinite(logits[i]) || (round > 0 && key >> (shift + 8) != known)) continue;
      const float mass = expf((logits[i] - top) / asked.temperature) * unit;
      atomicAdd(&bins[key >> shift & 255], static_cast<unsigned>(mass + 0.5f));
    }
    __syncthreads();
    if (thread == 0) {
      unsigned mass = massAbove, bin = 255;
      while (bin > 0 && mass + bins[bin] < wanted) mass += bins[bin--];
      massAbove = mass;
      prefix = known << 8 | bin;
    }
    __syncthreads();
  }
  if (thread == 0) p.sampling[blockIdx.x].threshold = prefix;
}
