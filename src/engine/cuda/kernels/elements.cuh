// Eight neighbouring elements of an array in any of the stored types, as float32.
#pragma once
#include "device.cuh"

// How the host numbers element types.
enum Format { BFLOAT16 = 0, FLOAT16 = 1, FLOAT32 = 2 };

struct Eight {
  float x[8];
};

// Eight elements as they are stored: 16 bytes, or 32 of float32.
template <int FORMAT>
struct Raw {
  uint4 part[FORMAT == FLOAT32 ? 2 : 1];
};

__device__ __forceinline__ float bfloat16Low(unsigned pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float bfloat16High(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }

template <int FORMAT>
__device__ __forceinline__ Eight eightOf(const Raw<FORMAT>& raw) {
  Eight eight;
  if constexpr (FORMAT == FLOAT32) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      eight.x[4 * i] = __uint_as_float(raw.part[i].x);
      eight.x[4 * i + 1] = __uint_as_float(raw.part[i].y);
      eight.x[4 * i + 2] = __uint_as_float(raw.part[i].z);
      eight.x[4 * i + 3] = __uint_as_float(raw.part[i].w);
    }
  } else {
    const unsigned pairs[4] = {raw.part[0].x, raw.part[0].y, raw.part[0].z, raw.part[0].w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      eight.x[2 * i] = FORMAT == FLOAT16 ? floatOfHalf(pairs[i] & 0xffffu) : bfloat16Low(pairs[i]);
      eight.x[2 * i + 1] = FORMAT == FLOAT16 ? floatOfHalf(pairs[i] >> 16) : bfloat16High(pairs[i]);
    }
  }
  return eight;
}

// The weights 8 · chunk and on of `array`, read once.
template <int FORMAT>
__device__ __forceinline__ Raw<FORMAT> weightsAt(const void* array, size_t chunk) {
  Raw<FORMAT> raw;
  constexpr int PARTS = FORMAT == FLOAT32 ? 2 : 1;
#pragma unroll
  for (int i = 0; i < PARTS; i++) raw.part[i] = loadOnce(static_cast<const uint4*>(array) + chunk * PARTS + i);
  return raw;
}

// Eight elements whose type is known only when the kernel runs; `high` is there for float32 alone.
struct AnyRaw {
  uint4 low, high;
};

__device__ __forceinline__ AnyRaw anyRawAt(unsigned format, const void* array, size_t chunk) {
  const uint4* from = static_cast<const uint4*>(array);
  AnyRaw raw = {};
  if (format == FLOAT32) {
    raw.low = from[2 * chunk];
    raw.high = from[2 * chunk + 1];
  } else {
    raw.low = from[chunk];
  }
  return raw;
}

__device__ __forceinline__ Eight eightOfAny(unsigned format, const AnyRaw& raw) {
  if (format == FLOAT32) return eightOf<FLOAT32>({{raw.low, raw.high}});
  if (format == FLOAT16) return eightOf<FLOAT16>({{raw.low}});
  return eightOf<BFLOAT16>({{raw.low}});
}

__device__ __forceinline__ Eight eightAt(unsigned format, const void* array, size_t chunk) {
  return eightOfAny(format, anyRawAt(format, array, chunk));
}

__device__ __forceinline__ AnyRaw rawFloats(const Eight& eight) {
  const float* x = eight.x;
  return {make_uint4(__float_as_uint(x[0]), __float_as_uint(x[1]), __float_as_uint(x[2]), __float_as_uint(x[3])),
          make_uint4(__float_as_uint(x[4]), __float_as_uint(x[5]), __float_as_uint(x[6]), __float_as_uint(x[7]))};
}

__device__ __forceinline__ Eight floatsAt(const float4* array, size_t chunk) {
  const float4 low = array[2 * chunk], high = array[2 * chunk + 1];
  return {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
}

// To the nearest bfloat16, ties to even; NaN stays NaN.
__device__ __forceinline__ unsigned bfloat16Of(float value) {
  const unsigned bits = __float_as_uint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits >> 16) | 0x40u;
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

// Eight elements rounded to a stored type.
__device__ __forceinline__ AnyRaw rawOf(unsigned format, const Eight& eight) {
  if (format == FLOAT32) return rawFloats(eight);
  unsigned pairs[4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const float low = eight.x[2 * i], high = eight.x[2 * i + 1];
    pairs[i] = format == FLOAT16 ? halfOfFloat(low) | (halfOfFloat(high) << 16)
                                 : bfloat16Of(low) | (bfloat16Of(high) << 16);
  }
  return {make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]), {}};
}

__device__ __forceinline__ void storeRaw(unsigned format, void* array, size_t chunk, const AnyRaw& raw) {
  uint4* to = static_cast<uint4*>(array);
  if (format == FLOAT32) {
    to[2 * chunk] = raw.low;
    to[2 * chunk + 1] = raw.high;
  } else {
    to[chunk] = raw.low;
  }
}

__device__ __forceinline__ void storeEight(unsigned format, void* array, size_t chunk, const Eight& eight) {
  storeRaw(format, array, chunk, rawOf(format, eight));
}

__device__ __forceinline__ float dot(const Eight& a, const Eight& b, float sum) {
#pragma unroll
  for (int i = 0; i < 8; i++) sum = fmaf(a.x[i], b.x[i], sum);
  return sum;
}
