// What the fake driver holds: memory with a guard behind it, handles, calls, and failures that tests have asked for.
#pragma once
#include <cstdlib>
#include <functional>
#include <set>
#include <sys/mman.h>
#include <vector>
#include "block.hpp"

namespace {

enum { success = 0, invalidValue = 1, outOfMemory = 2, notInitialised = 3, noDevice = 100, invalidImage = 200,
       invalidContext = 201, invalidHandle = 400, notFound = 500, notReady = 600, launchFailed = 719,
       captureUnsupported = 900, captureInvalidated = 901 };

struct Memory {
  size_t size, mapped;
  char* map;
  bool host;
};
struct Module {
  std::string text;
};
struct Function {
  std::string name;
  const emulated::Kernel* kernel;
  // Shared memory that a launch may ask for.
  unsigned mostSharedBytes;
};
struct Launch {
  // A library's own work, where it is not one of the kernels here; it says what went wrong.
  std::function<std::string()> work;
  const Function* function;
  uint3 grid;
  unsigned sharedBytes;
  std::vector<char> argument;
  bool overlaps;
};
struct Graph {
  std::vector<Launch> launches;
};
struct Event {
  int polls;
  bool timed;
};
// As in cuda.h.
struct Config {
  unsigned grid[3], block[3], sharedBytes;
  void* stream;
  struct Attribute {
    int id;
    char pad[4];
    int value[16];
  }* attributes;
  unsigned attributeCount;
};
static_assert(sizeof(Config) == 56 && sizeof(Config::Attribute) == 72);

bool initialised = false, current = false;
unsigned contexts = 0;
std::map<uint64_t, Memory> memories;
std::set<void*> modules, functions, streams, graphs, instances, events;
Graph* capturing = nullptr;
bool invalidated = false;
std::vector<std::string> calls;
std::map<std::string, int> failures;
size_t roomLeft = size_t(8) << 30;

int capability() {
  const char* set = std::getenv("FAKE_CUDA_CAPABILITY");
  return set ? std::atoi(set) : 90;
}

// Writes a call down. What every call needs: a context, and that no test has asked for a failure.
int enter(const std::string& name, const std::string& detail = "", bool needsContext = true) {
  calls.push_back(detail.empty() ? name : name + " " + detail);
  if (auto found = failures.find(name); found != failures.end()) {
    const int result = found->second;
    failures.erase(found);
    // Whatever fails meanwhile takes a capture with it.
    if (capturing) invalidated = true;
    return result;
  }
  if (!initialised && name != "cuInit") return notInitialised;
  return needsContext && !current ? invalidContext : success;
}

#define ENTER(...) \
  if (const int result = enter(__func__, __VA_ARGS__); result != success) return result
// What may not be done while a stream is captured.
#define OUTSIDE_CAPTURE \
  if (capturing) return captureUnsupported

template <typename T>
T* make(std::set<void*>& all, T* made, void* out) {
  all.insert(made);
  *static_cast<T**>(out) = made;
  return made;
}

template <typename T>
int drop(std::set<void*>& all, void* handle) {
  if (!all.erase(handle)) return invalidHandle;
  delete static_cast<T*>(handle);
  return success;
}

// Whether bytes lie in one piece of memory of that kind.
bool covers(uint64_t address, size_t size, bool host) {
  auto after = memories.upper_bound(address);
  if (after == memories.begin()) return false;
  const auto& [start, memory] = *std::prev(after);
  return memory.host == host && address + size <= start + memory.size;
}

int allocate(void* out, size_t size, bool host) {
  if (size == 0) return invalidValue;
  if (size > roomLeft) return outOfMemory;
  const size_t page = 4096, room = (size + page - 1) / page * page, mapped = room + page;
  void* map = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) return outOfMemory;
  char* start = static_cast<char*>(map) + room - size / 16 * 16 - (size % 16 ? 16 : 0);
  mprotect(static_cast<char*>(map) + room, page, PROT_NONE);
  // NaN in every type, so that zeros are there only where somebody wrote them.
  if (size < (size_t(64) << 20)) std::memset(start, 0xff, size);
  roomLeft -= size;
  memories[reinterpret_cast<uint64_t>(start)] = {size, mapped, static_cast<char*>(map), host};
  *static_cast<char**>(out) = start;
  return success;
}

int release(uint64_t address, bool host) {
  auto found = memories.find(address);
  if (found == memories.end() || found->second.host != host) return invalidValue;
  roomLeft += found->second.size;
  munmap(found->second.map, found->second.mapped);
  memories.erase(found);
  return success;
}

int runNow(const Launch& launch) {
  if (launch.work) {
    const std::string error = launch.work();
    if (!error.empty()) calls.push_back("! library: " + error);
    return error.empty() ? success : launchFailed;
  }
  const std::string error = emulated::run(*launch.function->kernel, launch.argument.data(), launch.grid, launch.sharedBytes);
  if (error.empty()) return success;
  calls.push_back("! " + launch.function->name + ": " + error);
  return launchFailed;
}

}  // namespace
