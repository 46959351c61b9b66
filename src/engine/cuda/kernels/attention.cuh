// The keys of one sequence, taken by a warp: what decode and prefill share.
#pragma once
#include "pages.cuh"
#include "softmax.cuh"

// Keys that a group of lanes asks for before it uses the first.
constexpr unsigned AT_ONCE = 4;

// The newest key and value of a sequence where a kernel makes them itself: not yet to be read from the cache.
struct Newest {
  unsigned position = 0xffffffffu;
  AnyRaw key, value;
};

// Takes the positions begin + start, + step, ... below `end` of a KV head; `begin` and `end` are the warp's, `start` the
// group's. All lanes make the same rounds.
template <int LANES, int HEADS>
__device__ __forceinline__ void takeKeys(Softmax<HEADS>& state, const Eight (&query)[HEADS], const AttendParameters& p,
                                         unsigned firstPage, unsigned kvHead, unsigned begin, unsigned end,
                                         unsigned start, unsigned step, const Newest& newest) {
  const AttentionParameters& a = p.addressing;
  const unsigned chunk = threadIdx.x % LANES;
  const bool hasChannels = chunk < p.headDim / 8;
  for (unsigned round = begin; round < end; round += AT_ONCE * step) {
    AnyRaw key[AT_ONCE] = {}, value[AT_ONCE] = {};
#pragma unroll
    for (unsigned i = 0; i < AT_ONCE; i++) {
      const unsigned position = round + i * step + start;
      if (position >= end || !hasChannels) continue;
      if (position == newest.position) {
        key[i] = newest.key;
        value[i] = newest.value;
        continue;
      }
      const CacheRow row = rowOfPosition(a, *p.header, p.batch, p.pageSize, firstPage, position, kvHead);
      key[i] = anyRawAt(p.cacheFormat, p.keys, row.key + chunk);
      value[i] = anyRawAt(p.cacheFormat, p.values, row.value + chunk);
    }
#pragma unroll
    for (unsigned i = 0; i < AT_ONCE; i++) {
      const Eight k = eightOfAny(p.cacheFormat, key[i]), v = eightOfAny(p.cacheFormat, value[i]);
      take<LANES, HEADS>(state, query, k, v, round + i * step + start < end, a.scale, a.softCap);
    }
  }
}

// The variants: LANES · 8 channels are the longest head, HEADS the query heads that share a key. One head alone takes the
// variant of two: its keys are what takes time.
#define ATTENTION_VARIANTS(VARIANT) \
  VARIANT(8, 2) \
  VARIANT(8, 4) \
  VARIANT(16, 2) \
  VARIANT(16, 4) \
  VARIANT(32, 2) \
  VARIANT(32, 4)
