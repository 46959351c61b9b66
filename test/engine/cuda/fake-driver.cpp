// A libcuda.so.1 without a device, for tests: it checks what it is called with as far as a driver could, writes every call
// down, and runs kernels on the CPU (block.hpp) at once. Device memory ends where memory that nobody may touch begins.
// FAKE_CUDA_DEVICES and FAKE_CUDA_CAPABILITY (90) say what it pretends to have.
#include <regex>
#include "fake-state.hpp"

extern "C" {

int cuInit(unsigned flags) {
  ENTER("", false);
  const char* count = std::getenv("FAKE_CUDA_DEVICES");
  if (count && std::atoi(count) == 0) return noDevice;
  initialised = true;
  return flags == 0 ? success : invalidValue;
}
int cuGetErrorName(int error, const char** text) {
  static const std::map<int, const char*> names = {
      {1, "CUDA_ERROR_INVALID_VALUE"}, {2, "CUDA_ERROR_OUT_OF_MEMORY"}, {3, "CUDA_ERROR_NOT_INITIALIZED"},
      {100, "CUDA_ERROR_NO_DEVICE"}, {200, "CUDA_ERROR_INVALID_IMAGE"}, {201, "CUDA_ERROR_INVALID_CONTEXT"},
      {400, "CUDA_ERROR_INVALID_HANDLE"}, {500, "CUDA_ERROR_NOT_FOUND"}, {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
      {719, "CUDA_ERROR_LAUNCH_FAILED"}, {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
      {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"}};
  const auto found = names.find(error);
  *text = found == names.end() ? nullptr : found->second;
  return found == names.end() ? invalidValue : success;
}
int cuGetErrorString(int error, const char** text) {
  const char* name;
  if (cuGetErrorName(error, &name)) return *text = nullptr, invalidValue;
  *text = "in the words of the driver";
  return success;
}
int cuDriverGetVersion(int* version) { return *version = 12080, enter(__func__, "", false); }
int cuDeviceGetCount(int* count) {
  ENTER("", false);
  const char* set = std::getenv("FAKE_CUDA_DEVICES");
  return *count = set ? std::atoi(set) : 1, success;
}
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, enter(__func__, "", false); }
int cuDeviceGetName(char* name, int length, int device) {
  ENTER("", false);
  std::snprintf(name, length, "Fake GPU %d", device);
  return success;
}
int cuDeviceGetAttribute(int* value, int attribute, int) {
  ENTER(std::to_string(attribute), false);
  if (attribute == 75) *value = capability() / 10;
  else if (attribute == 76) *value = capability() % 10;
  else if (attribute == 16) *value = 4;
  else return invalidValue;
  return success;
}
int cuDevicePrimaryCtxRetain(void** context, int) { ENTER("", false); return contexts++, *context = &contexts, success; }
int cuDevicePrimaryCtxRelease_v2(int) {
  ENTER("", false);
  if (contexts == 0) return invalidContext;
  if (--contexts == 0) current = false;
  return success;
}
int cuCtxSetCurrent(void* context) { ENTER("", false); return current = context == &contexts, success; }

int cuMemAlloc_v2(uint64_t* out, size_t size) { ENTER(std::to_string(size)); OUTSIDE_CAPTURE; return allocate(out, size, false); }
int cuMemFree_v2(uint64_t address) { ENTER(""); OUTSIDE_CAPTURE; return release(address, false); }
int cuMemAllocHost_v2(void** out, size_t size) { ENTER(std::to_string(size)); return allocate(out, size, true); }
int cuMemFreeHost(void* address) { ENTER(""); return release(reinterpret_cast<uint64_t>(address), true); }
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t size, void* stream) {
  ENTER(std::to_string(size));
  OUTSIDE_CAPTURE;
  if (!streams.count(stream)) return invalidHandle;
  if (!covers(to, size, false)) return invalidValue;
  std::memset(reinterpret_cast<void*>(to), value, size);
  return success;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t size, void* stream) {
  ENTER(std::to_string(size));
  OUTSIDE_CAPTURE;
  if (!streams.count(stream)) return invalidHandle;
  if (!covers(to, size, false)) return invalidValue;
  std::memcpy(reinterpret_cast<void*>(to), from, size);
  return success;
}
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t size, void* stream) {
  ENTER(std::to_string(size));
  OUTSIDE_CAPTURE;
  if (!streams.count(stream)) return invalidHandle;
  if (!covers(from, size, false) || !covers(reinterpret_cast<uint64_t>(to), size, true)) return invalidValue;
  std::memcpy(to, reinterpret_cast<void*>(from), size);
  return success;
}

int cuModuleLoadData(void** out, const char* image) {
  ENTER("");
  const std::string text = image;
  const bool later = text.find("\n.target sm_90") != std::string::npos, hints = text.find("//sm_90 ") != std::string::npos;
  // PTX for a later device is refused; for this one, all that it can do should be turned on.
  if (text.find("\n.version ") == std::string::npos || later != (capability() >= 90) || (later && hints)) return invalidImage;
  make(modules, new Module{text}, out);
  return success;
}
int cuModuleUnload(void* module) { ENTER(""); return drop<Module>(modules, module); }
int cuModuleGetFunction(void** out, void* module, const char* name) {
  ENTER(name);
  if (!modules.count(module)) return invalidHandle;
  const std::string& text = static_cast<Module*>(module)->text;
  const size_t entry = text.find(".visible .entry " + std::string(name) + "(");
  const auto kernel = emulated::kernels().find(name);
  if (entry == std::string::npos || kernel == emulated::kernels().end()) return notFound;
  std::smatch found;
  const std::string head = text.substr(entry, 400);
  if (!std::regex_search(head, found, std::regex("_param_0\\[(\\d+)\\][^{]*\\.maxntid (\\d+)"))) return invalidImage;
  // PTX, and what was compiled for the CPU, agree.
  if (std::stoul(found[1]) != kernel->second.argumentBytes || std::stoul(found[2]) != kernel->second.threads) {
    return invalidImage;
  }
  make(functions, new Function{name, &kernel->second, 48 * 1024}, out);
  return success;
}

int cuFuncSetAttribute(void* handle, int attribute, int value) {
  ENTER(std::to_string(attribute) + " " + std::to_string(value));
  if (!functions.count(handle)) return invalidHandle;
  // The most that devices of every later kind have.
  if (attribute != 8 || value < 0 || value > 99 * 1024) return invalidValue;
  return static_cast<Function*>(handle)->mostSharedBytes = value, success;
}

int cuLaunchKernelEx(const Config* c, void* handle, void** arguments, void** extra) {
  if (!functions.count(handle)) return invalidHandle;
  const auto* function = static_cast<Function*>(handle);
  const bool overlaps = c->attributeCount == 1 && c->attributes[0].id == 6 && c->attributes[0].value[0] == 1;
  const auto shape = [](const unsigned* three) {
    return std::to_string(three[0]) + "x" + std::to_string(three[1]) + "x" + std::to_string(three[2]);
  };
  ENTER(function->name + " " + shape(c->grid) + " " + shape(c->block) + (overlaps ? " overlapping" : ""));
  if (!streams.count(c->stream) || c->attributeCount > 1 || (c->attributeCount == 1 && !overlaps)) return invalidValue;
  if (overlaps && capability() < 90) return invalidValue;
  if (c->grid[0] == 0 || c->grid[1] == 0 || c->grid[2] == 0 || c->grid[1] > 65535 || c->grid[2] > 65535) return invalidValue;
  if (c->block[0] != function->kernel->threads || c->block[1] != 1 || c->block[2] != 1) return invalidValue;
  if (c->sharedBytes > function->mostSharedBytes || c->sharedBytes % 16 != 0 || !arguments || extra) return invalidValue;
  const char* argument = static_cast<const char*>(arguments[0]);
  const Launch launch = {{}, function, {c->grid[0], c->grid[1], c->grid[2]}, c->sharedBytes,
                         {argument, argument + function->kernel->argumentBytes}, overlaps};
  if (!capturing) return runNow(launch);
  capturing->launches.push_back(launch);
  return success;
}

int cuStreamCreate(void** out, unsigned flags) { ENTER(std::to_string(flags)); return make(streams, new int, out), success; }
int cuStreamDestroy_v2(void* stream) { ENTER(""); return drop<int>(streams, stream); }
int cuStreamSynchronize(void* stream) { ENTER(""); OUTSIDE_CAPTURE; return streams.count(stream) ? success : invalidHandle; }
int cuStreamBeginCapture_v2(void* stream, int) {
  ENTER("");
  if (!streams.count(stream) || capturing) return invalidValue;
  return capturing = new Graph, success;
}
int cuStreamEndCapture(void* stream, void** out) {
  ENTER("");
  if (!streams.count(stream) || !capturing) return invalidValue;
  if (invalidated) {
    delete capturing;
    capturing = nullptr;
    return invalidated = false, *out = nullptr, captureInvalidated;
  }
  make(graphs, capturing, out);
  return capturing = nullptr, success;
}
int cuGraphInstantiateWithFlags(void** out, void* graph, unsigned long long flags) {
  ENTER("");
  if (!graphs.count(graph) || flags != 0) return invalidValue;
  return make(instances, new Graph(*static_cast<Graph*>(graph)), out), success;
}
int cuGraphDestroy(void* graph) { ENTER(""); return drop<Graph>(graphs, graph); }
int cuGraphExecDestroy(void* instance) { ENTER(""); return drop<Graph>(instances, instance); }
int cuGraphLaunch(void* instance, void* stream) {
  if (!instances.count(instance) || !streams.count(stream)) return invalidHandle;
  ENTER(std::to_string(static_cast<Graph*>(instance)->launches.size()));
  for (const Launch& launch : static_cast<Graph*>(instance)->launches) {
    if (const int result = runNow(launch); result != success) return result;
  }
  return success;
}

int cuEventCreate(void** out, unsigned flags) { ENTER(""); return make(events, new Event{0, flags == 0}, out), success; }
int cuEventDestroy_v2(void* event) { ENTER(""); return drop<Event>(events, event); }
int cuEventRecord(void* event, void* stream) {
  ENTER("");
  if (!events.count(event) || !streams.count(stream)) return invalidHandle;
  // Once the answer is that it has not come yet.
  return static_cast<Event*>(event)->polls = 1, success;
}
int cuEventQuery(void* event) {
  ENTER("");
  if (!events.count(event)) return invalidHandle;
  return static_cast<Event*>(event)->polls-- > 0 ? notReady : success;
}
int cuEventElapsedTime(float* milliseconds, void* start, void* end) {
  ENTER("");
  if (!events.count(start) || !events.count(end) || !static_cast<Event*>(start)->timed) return invalidHandle;
  return *milliseconds = 0.002f, success;
}

// For libraries that launch by themselves: work in the order of the stream, which a capture only writes down.
int fakeEnqueue(void* stream, const std::function<std::string()>* work) {
  ENTER("");
  if (!streams.count(stream)) return invalidHandle;
  const Launch launch = {*work, nullptr, {1, 1, 1}, 0, {}, false};
  if (!capturing) return runNow(launch);
  capturing->launches.push_back(launch);
  return success;
}
int fakeCapturing() { return capturing != nullptr; }
int fakeCovers(uint64_t address, size_t size, int host) { return covers(address, size, host != 0); }

// For tests: the calls since the last time, a failure of the next call of a function, and what has not been given back.
const char* fakeCalls() {
  static std::string text;
  text.clear();
  for (const auto& call : calls) text += call + "\n";
  calls.clear();
  return text.c_str();
}
void fakeFailure(const char* name, int result) { failures[name] = result; }
int fakeLive() {
  return memories.size() + modules.size() + streams.size() + graphs.size() + instances.size() + events.size() + contexts;
}
}
