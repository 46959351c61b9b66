// RoPE of pairs (j, j + head_dim / 2) by angles from a table that the host made in float64, and QK-norm before it.
#pragma once
#include "elements.cuh"

__device__ __forceinline__ float4 floatsOf(const float* array, unsigned at) {
  return *reinterpret_cast<const float4*>(array + at);
}

__device__ __forceinline__ float4 times(const float4& a, const float4& b) {
  return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w);
}

// Channels 8 · chunk and on of a head, normed and rotated.
//   head [head_dim]; gain [head_dim] or null; angles [head_dim / 2] (cos, sin) of the row's position; scale: 1/rms.
__device__ __forceinline__ Eight rotatedEight(
    const float* head, const float* gain, const float2* angles, unsigned headDim, unsigned chunk, float scale) {
  const unsigned half = headDim / 2;
  Eight rotated;
#pragma unroll
  for (int quad = 0; quad < 2; quad++) {
    // Four channels lie in one half of the head, as half is a multiple of four.
    const unsigned channel = chunk * 8 + quad * 4;
    const bool low = channel < half;
    const unsigned partner = low ? channel + half : channel - half;
    float4 x = floatsOf(head, channel), other = floatsOf(head, partner);
    x = make_float4(x.x * scale, x.y * scale, x.z * scale, x.w * scale);
    other = make_float4(other.x * scale, other.y * scale, other.z * scale, other.w * scale);
    if (gain) {
      x = times(x, floatsOf(gain, channel));
      other = times(other, floatsOf(gain, partner));
    }
    const float sign = low ? -1.f : 1.f;
    const float4* turns = reinterpret_cast<const float4*>(angles + (low ? channel : partner));
    const float4 first = turns[0], second = turns[1];
    rotated.x[quad * 4] = x.x * first.x + sign * other.x * first.y;
    rotated.x[quad * 4 + 1] = x.y * first.z + sign * other.y * first.w;
    rotated.x[quad * 4 + 2] = x.z * second.x + sign * other.z * second.y;
    rotated.x[quad * 4 + 3] = x.w * second.z + sign * other.w * second.w;
  }
  return rotated;
}
