// RoPE of pairs (j, j + head_dim / 2) by angles from a table that the host made in float64, and QK-norm before it.
#pragma once
#include "elements.cuh"

__device__ __forceinline__ float4 floatsOf(const float* array, unsigned at) {
  return *reinterpret_cast<const float4*>(array + at);
}

__device__ __forceinline__ float4 times(const float4& a, const float4& b) {
  return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w);
}

__device__ __forceinline__ float4 times(const float4& a, float b) { return make_float4(a.x * b, a.y * b, a.z * b, a.w * b); }

// Channels 8 · chunk and on of a head in quads, and beside each the quad that it turns with. Four channels lie in one half of
// the head, as half is a multiple of four.
struct TurningPart {
  float4 own[2], partner[2];
};

// Where quad `quad` of a chunk begins, and its partner.
__device__ __forceinline__ unsigned ownQuad(unsigned chunk, int quad) { return chunk * 8 + quad * 4; }
__device__ __forceinline__ unsigned partnerQuad(unsigned headDim, unsigned chunk, int quad) {
  const unsigned channel = ownQuad(chunk, quad), half = headDim / 2;
  return channel < half ? channel + half : channel - half;
}

// Of an array [head_dim].
__device__ __forceinline__ TurningPart turningPartAt(const float* array, unsigned headDim, unsigned chunk) {
  TurningPart part;
#pragma unroll
  for (int quad = 0; quad < 2; quad++) {
    part.own[quad] = floatsOf(array, ownQuad(chunk, quad));
    part.partner[quad] = floatsOf(array, partnerQuad(headDim, chunk, quad));
  }
  return part;
}

__device__ __forceinline__ TurningPart times(const TurningPart& a, const TurningPart& b) {
  return {{times(a.own[0], b.own[0]), times(a.own[1], b.own[1])},
          {times(a.partner[0], b.partner[0]), times(a.partner[1], b.partner[1])}};
}

__device__ __forceinline__ TurningPart times(const TurningPart& a, float b) {
  return {{times(a.own[0], b), times(a.own[1], b)}, {times(a.partner[0], b), times(a.partner[1], b)}};
}

__device__ __forceinline__ Eight ownOf(const TurningPart& part) {
  const float4 &a = part.own[0], &b = part.own[1];
  return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}

// (cos, sin) of eight channels.
struct Turns {
  float4 pairs[2][2];
};

__device__ __forceinline__ Turns turnsAt(const float2* angles, unsigned headDim, unsigned chunk) {
  Turns turns;
#pragma unroll
  for (int quad = 0; quad < 2; quad++) {
    const unsigned first = min(ownQuad(chunk, quad), partnerQuad(headDim, chunk, quad));
    const float4* from = reinterpret_cast<const float4*>(angles + first);
    turns.pairs[quad][0] = from[0];
    turns.pairs[quad][1] = from[1];
  }
  return turns;
}

__device__ __forceinline__ Eight rotatedPart(const TurningPart& part, const Turns& turns, unsigned headDim, unsigned chunk) {
  Eight rotated;
#pragma unroll
  for (int quad = 0; quad < 2; quad++) {
    const float4 x = part.own[quad], other = part.partner[quad];
    const float sign = ownQuad(chunk, quad) < headDim / 2 ? -1.f : 1.f;
    const float4 first = turns.pairs[quad][0], second = turns.pairs[quad][1];
    rotated.x[quad * 4] = x.x * first.x + sign * other.x * first.y;
    rotated.x[quad * 4 + 1] = x.y * first.z + sign * other.y * first.w;
    rotated.x[quad * 4 + 2] = x.z * second.x + sign * other.z * second.y;
    rotated.x[quad * 4 + 3] = x.w * second.z + sign * other.w * second.w;
  }
  return rotated;
}

// Channels 8 · chunk and on of a head, normed and rotated.
//   head [head_dim]; gain [head_dim] or null; angles [head_dim / 2] (cos, sin) of the row's position; scale: 1/rms.
__device__ __forceinline__ Eight rotatedEight(
    const float* head, const float* gain, const float2* angles, unsigned headDim, unsigned chunk, float scale) {
  TurningPart part = times(turningPartAt(head, headDim, chunk), scale);
  if (gain) part = times(part, turningPartAt(gain, headDim, chunk));
  return rotatedPart(part, turnsAt(angles, headDim, chunk), headDim, chunk);
}
