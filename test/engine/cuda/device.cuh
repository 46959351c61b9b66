// src/engine/cuda/kernels/device.cuh for the CPU: the same names, in C++.
#pragma once

#define KERNEL_OF_BLOCKS(NAME, PARAMETERS, THREADS, BLOCKS) KERNEL(NAME, PARAMETERS, THREADS)
#define KERNEL(NAME, PARAMETERS, THREADS)                                                        \
  void NAME(const PARAMETERS& p);                                                                \
  const bool NAME##_known = emulated::kernels()                                                  \
                                .insert({#NAME,                                                  \
                                         {[](const void* argument) {                             \
                                            NAME(*static_cast<const PARAMETERS*>(argument));     \
                                          },                                                     \
                                          sizeof(PARAMETERS), THREADS, SHARED_BEGIN, SHARED_END}}) \
                                .second;                                                         \
  void NAME(const PARAMETERS& p)

// Launches do not overlap here.
inline void letNextStart() {}
inline void waitForPrevious() {}

inline uint4 loadOnce(const uint4* from) { return *from; }

inline float floatOfHalf(unsigned bits) {
  const unsigned magnitude = bits & 0x7fffu;
  float value = std::ldexp(static_cast<float>(magnitude & 0x3ffu), -24);
  if (magnitude >= 0x7c00u) value = magnitude > 0x7c00u ? NAN : INFINITY;
  else if (magnitude >= 0x400u) value = std::ldexp(1.f + (magnitude & 0x3ffu) / 1024.f, static_cast<int>(magnitude >> 10) - 15);
  return bits & 0x8000u ? -value : value;
}

inline unsigned halfOfFloat(float value) {
  const unsigned sign = std::signbit(value) ? 0x8000u : 0;
  const float size = std::fabs(value);
  if (std::isnan(value)) return 0x7fffu;
  if (size >= 65520.f) return sign | 0x7c00u;
  if (size < 0x1p-14f) return sign | static_cast<unsigned>(std::nearbyint(std::ldexp(size, 24)));
  int exponent;
  const float fraction = std::frexp(size, &exponent);
  // Rounding up to the next power of two carries into the exponent by itself.
  return sign | ((static_cast<unsigned>(exponent + 13) << 10) + static_cast<unsigned>(std::nearbyint(std::ldexp(fraction, 11))));
}

#define LAUNCHED_SHARED(NAME) uint4* const NAME = emulated::block.launchedShared

// The copy is made when somebody waits for it: who does not, reads what was there before.
inline void copyLater(uint4* to, const uint4* from, bool has) {
  auto& copies = emulated::block.current->copies;
  copies.waiting.push_back({to, has ? from : nullptr, copies.ended});
}
inline void endCopies() { emulated::block.current->copies.ended++; }
template <int PENDING>
void waitForCopies() {
  emulated::block.current->copies.make(PENDING);
}

inline void loadMatrices(unsigned (&four)[4], const uint4* row) {
  const auto& rows = emulated::exchange(row, -1);
  const unsigned lane = threadIdx.x % 32;
  for (unsigned m = 0; m < 4; m++) four[m] = reinterpret_cast<const unsigned*>(rows[8 * m + lane / 4].row)[lane % 4];
}
inline void loadTransposed(unsigned (&four)[4], const uint4* row) {
  const auto& rows = emulated::exchange(row, -2);
  const unsigned lane = threadIdx.x % 32, pair = lane % 4 * 2;
  const auto element = [&](unsigned r) { return reinterpret_cast<const uint16_t*>(rows[r].row)[lane / 4]; };
  for (unsigned m = 0; m < 4; m++) four[m] = element(8 * m + pair) | static_cast<unsigned>(element(8 * m + pair + 1)) << 16;
}

// Sums of sixteen exact products and what was there, rounded once; of the whole warp at once.
template <typename Widen>
void multiplyAll(emulated::Given (&given)[32], Widen widen) {
  double left[16][16], right[16][8], sums[16][8];
  for (unsigned lane = 0; lane < 32; lane++) {
    const auto& part = given[lane].part;
    const unsigned line = lane / 4, pair = lane % 4 * 2;
    for (unsigned i = 0; i < 4; i++) {
      left[line + i % 2 * 8][pair + i / 2 * 8] = widen(part.a[i] & 0xffffu);
      left[line + i % 2 * 8][pair + i / 2 * 8 + 1] = widen(part.a[i] >> 16);
      sums[line + i / 2 * 8][pair + i % 2] = part.sums[i];
    }
    for (unsigned i = 0; i < 2; i++) {
      right[pair + i * 8][line] = widen(part.b[i] & 0xffffu);
      right[pair + i * 8 + 1][line] = widen(part.b[i] >> 16);
    }
  }
  for (unsigned row = 0; row < 16; row++) {
    double sum[8];
    std::memcpy(sum, sums[row], sizeof(sum));
    for (unsigned k = 0; k < 16; k++) {
      for (unsigned column = 0; column < 8; column++) sum[column] += left[row][k] * right[k][column];
    }
    std::memcpy(sums[row], sum, sizeof(sum));
  }
  for (unsigned lane = 0; lane < 32; lane++) {
    for (unsigned i = 0; i < 4; i++) {
      given[lane].part.sums[i] = static_cast<float>(sums[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2]);
    }
  }
}
template <typename Widen>
void multiplyBy(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, int kind, Widen widen) {
  const emulated::Fragments own = {{a[0], a[1], a[2], a[3]}, {b0, b1}, {sums[0], sums[1], sums[2], sums[3]}};
  const auto& parts = emulated::exchange(own, kind, [&](emulated::Given(&given)[32]) { multiplyAll(given, widen); });
  std::memcpy(sums, parts[threadIdx.x % 32].part.sums, sizeof(sums));
}
inline void multiplyBfloat16(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  multiplyBy(sums, a, b0, b1, -3, [](unsigned bits) { return __uint_as_float(bits << 16); });
}
inline void multiplyHalf(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  static const auto* known = [] {
    auto* all = new float[65536];
    for (unsigned bits = 0; bits < 65536; bits++) all[bits] = floatOfHalf(bits);
    return all;
  }();
  multiplyBy(sums, a, b0, b1, -4, [](unsigned bits) { return known[bits]; });
}

inline unsigned bfloat16Pair(float low, float high) {
  const auto rounded = [](float value) {
    const unsigned bits = __float_as_uint(value);
    return std::isnan(value) ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  };
  return rounded(low) | rounded(high) << 16;
}
inline unsigned halfPair(float low, float high) { return halfOfFloat(low) | halfOfFloat(high) << 16; }

inline float powerOfTwo(float x) {
  const float power = exp2f(x);
  return power < 0x1p-126f ? 0.f : power;
}
