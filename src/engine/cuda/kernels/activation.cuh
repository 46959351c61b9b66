// x / (1 + e^-x). The clamp keeps e^-x finite; at -80 SiLU is already -1e-33.
#pragma once
#include "device.cuh"

__device__ __forceinline__ float silu(float x) {
  return x / (1.f + expf(fminf(-x, 80.f)));
}
