// Runs CUDA kernels on a CPU, for tests: the threads of a block are fibers that take turns, blocks run one after the other.
// A thread waits only at barriers and shuffles, so that what a kernel computes is what it computes on a device, rounding of
// the device's own functions aside. Found besides: barriers that not all threads reach, shuffles that lanes disagree about,
// shared memory that is read before it is written (it holds NaN), and, as the order of threads turns around from launch to
// launch, most results that hang on it.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <vector>

struct uint3 {
  unsigned x, y, z;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

namespace emulated {

struct Kernel {
  void (*run)(const void* argument);
  size_t argumentBytes;
  unsigned threads;
  // Shared memory of its file.
  char *sharedBegin, *sharedEnd;
};

// By name; a kernel enters itself.
std::map<std::string, Kernel>& kernels();

struct Barrier {
  unsigned arrived = 0, round = 0;
};

// A lane's parts of three matrices: what is multiplied, and the sums.
struct Fragments {
  unsigned a[4], b[2];
  float sums[4];
};

// Copies on their way, by the groups that a thread ended: from where to where, zeros from nowhere.
struct Copies {
  struct Copy {
    uint4* to;
    const uint4* from;
    unsigned group;
  };
  std::vector<Copy> waiting;
  size_t made = 0;
  unsigned ended = 0;

  void make(unsigned pending) {
    for (; made < waiting.size() && waiting[made].group + pending < ended; made++) {
      *waiting[made].to = waiting[made].from ? *waiting[made].from : uint4{};
    }
    if (made < waiting.size()) return;
    waiting.clear();
    made = 0;
  }
  void forget() {
    waiting.clear();
    made = ended = 0;
  }
};

// What a lane gives the others.
union Given {
  uint64_t value;
  const uint4* row;
  Fragments part;
};

struct Warp {
  Barrier barrier;
  unsigned size = 0;
  // Two rounds of exchange: what lanes give, and for what: a shuffle by a distance, or an instruction, which is negative.
  Given given[2][32];
  int distance[2];
};

constexpr unsigned mostThreads = 1024;

struct Thread {
  uint3 index;
  unsigned number = 0, shuffles = 0;
  bool live = false;
  Copies copies;
  // Where its stack stands while others run.
  void* here = nullptr;
  char* stack = nullptr;
};

struct Block {
  uint3 index, grid;
  unsigned threads = 0, live = 0, waits = 0;
  int step = 1;
  const Kernel* kernel = nullptr;
  const void* argument = nullptr;
  uint4* launchedShared = nullptr;
  std::string error;
  Barrier barrier;
  Warp warps[mostThreads / 32];
  Thread thread[mostThreads];
  Thread* current = nullptr;
  void* caller = nullptr;
};

extern Block block;

// Runs a kernel on every block of a grid, with so much shared memory beside its own; empty, or what went wrong.
std::string run(const Kernel& kernel, const void* argument, uint3 grid, size_t sharedBytes);

void wait(Barrier& barrier, unsigned expected);
void fail(const char* what);

inline void give(Given& given, uint64_t value) { given.value = value; }
inline void give(Given& given, const uint4* row) { given.row = row; }
inline void give(Given& given, const Fragments& part) { given.part = part; }

// What each lane of the warp has given, as `all` leaves it, which the last lane runs; it stays until the next exchange but one.
template <typename T, typename All>
const Given (&exchange(const T& value, int distance, All all))[32] {
  Thread& me = *block.current;
  Warp& warp = block.warps[me.number / 32];
  const unsigned round = me.shuffles++ % 2;
  if (warp.barrier.arrived > 0 && warp.distance[round] != distance) fail("lanes of a warp exchange in different ways");
  warp.distance[round] = distance;
  give(warp.given[round][me.number % 32], value);
  if (warp.barrier.arrived + 1 == warp.size) all(warp.given[round]);
  wait(warp.barrier, warp.size);
  return warp.given[round];
}

template <typename T>
const Given (&exchange(const T& value, int distance))[32] {
  return exchange(value, distance, [](Given(&)[32]) {});
}

template <typename T>
T shuffle(T value, int distance) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  const unsigned lane = block.current->number % 32;
  std::memcpy(&value, &exchange(bits, distance)[lane ^ static_cast<unsigned>(distance)].value, sizeof(T));
  return value;
}

}  // namespace emulated

#define threadIdx (emulated::block.current->index)
#define blockIdx (emulated::block.index)
#define gridDim (emulated::block.grid)
#define __device__
#define __forceinline__ inline
#define __noinline__
#define __shared__ static __attribute__((section(SHARED_SECTION)))

inline void __syncthreads() { emulated::wait(emulated::block.barrier, emulated::block.threads); }

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int distance) {
  if (mask != 0xffffffffu) emulated::fail("a shuffle leaves lanes out");
  return emulated::shuffle(value, distance);
}

inline unsigned atomicAdd(unsigned* at, unsigned value) {
  const unsigned before = *at;
  *at += value;
  return before;
}

inline float2 make_float2(float x, float y) { return {x, y}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline unsigned __float_as_uint(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}
inline float rsqrtf(float x) { return static_cast<float>(1 / std::sqrt(static_cast<double>(x))); }
template <typename T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
T max(T a, T b) {
  return a < b ? b : a;
}
