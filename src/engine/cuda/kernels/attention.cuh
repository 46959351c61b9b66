// The keys of one sequence, taken by a warp: what decode and prefill share.
#pragma once
#include "pages.cuh"
#include "softmax.cuh"

// Keys that a group of lanes asks for before it uses the first.
constexpr unsigned AT_ONCE = 4;

// The newest key and value of a sequence where a kernel has them already: not to be read from the cache with the others.
struct Newest {
  unsigned position = 0xffffffffu;
  AnyRaw key, value;
};

// Keys and values that a group of lanes asked for.
struct AskedKeys {
  AnyRaw key[AT_ONCE], value[AT_ONCE];
};

// Asks for the positions first, + step, ... below `end` of a KV head, but for the newest.
__device__ __forceinline__ void askForKeys(AskedKeys& asked, const AttendParameters& p, unsigned format, unsigned lanes,
                                           unsigned firstPage, unsigned kvHead, unsigned first, unsigned step,
                                           unsigned end, unsigned newest) {
  const unsigned chunk = threadIdx.x % lanes;
#pragma unroll
  for (unsigned i = 0; i < AT_ONCE; i++) {
    const unsigned position = first + i * step;
    asked.key[i] = asked.value[i] = AnyRaw{};
    if (position >= end || position == newest || chunk >= p.headDim / 8) continue;
    const CacheRow row = rowOfPosition(p.addressing, *p.header, p.batch, p.pageSize, firstPage, position, kvHead);
    asked.key[i] = anyRawAt(format, p.keys, row.key + chunk);
    asked.value[i] = anyRawAt(format, p.values, row.value + chunk);
  }
}

// Takes what was asked for: all scores first, which hang on nothing of each other. All lanes of a warp come here together.
template <int LANES, int HEADS>
__device__ __forceinline__ void takeAsked(Softmax<HEADS>& state, const Eight (&query)[HEADS], const AttendParameters& p,
                                          unsigned format, const AskedKeys& asked, unsigned first, unsigned step,
                                          unsigned end, const Newest& newest) {
  float score[AT_ONCE][HEADS];
#pragma unroll
  for (unsigned i = 0; i < AT_ONCE; i++) {
    const bool isNewest = first + i * step == newest.position;
    const Eight key = eightOfAny(format, isNewest ? newest.key : asked.key[i]);
#pragma unroll
    for (int h = 0; h < HEADS; h++) score[i][h] = sumOverLanes<LANES>(dot(query[h], key, 0.f));
  }
  float top[HEADS];
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
    top[h] = state.top[h];
#pragma unroll
    for (unsigned i = 0; i < AT_ONCE; i++) {
      score[i][h] = scoreOf(score[i][h], p.addressing.scale, p.addressing.softCap);
      if (first + i * step < end) top[h] = fmaxf(top[h], score[i][h]);
    }
    shrinkTo<HEADS>(state, h, top[h]);
  }
#pragma unroll
  for (unsigned i = 0; i < AT_ONCE; i++) {
    const unsigned position = first + i * step;
    const Eight value = eightOfAny(format, position == newest.position ? newest.value : asked.value[i]);
#pragma unroll
    for (int h = 0; h < HEADS; h++) addValue<HEADS>(state, h, position < end ? exp2f(score[i][h] - top[h]) : 0.f, value);
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
