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
