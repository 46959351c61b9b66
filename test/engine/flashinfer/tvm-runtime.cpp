// A libtvm_ffi.so for tests: the thread's stream, raised errors, and objects whose holders are counted.
#include <map>
#include "tvm.hpp"

namespace {
struct Text {
  const char* data;
  size_t size;
};
struct Error {
  char header[24];
  Text kind, message, backtrace;
  std::string texts[2];
};
Error* raised = nullptr;
void* stream = nullptr;
std::map<void*, std::vector<int64_t>> arrays;
std::map<void*, Error*> errors;
}  // namespace

extern "C" {
int TVMFFIEnvSetStream(int deviceType, int deviceId, void* handle, void**) {
  stream = handle;
  return deviceType == onDevice && deviceId == 0 ? 0 : -1;
}
void TVMFFIErrorMoveFromRaised(void** out) {
  *out = raised;
  raised = nullptr;
}
int TVMFFIObjectDecRef(void* handle) {
  if (arrays.erase(handle)) {
    delete[] static_cast<char*>(handle);
    return 0;
  }
  const auto found = errors.find(handle);
  if (found == errors.end()) return -1;
  delete found->second;
  errors.erase(found);
  return 0;
}
void standInRaise(const char* kind, const char* message) {
  raised = new Error{{}, {}, {}, {}, {kind, message}};
  raised->kind = {raised->texts[0].data(), raised->texts[0].size()};
  raised->message = {raised->texts[1].data(), raised->texts[1].size()};
  errors[raised] = raised;
}
void* standInArray(const int64_t* numbers, int count) {
  void* handle = new char[24];
  arrays[handle] = {numbers, numbers + count};
  return handle;
}
const std::vector<int64_t>* standInNumbers(void* handle) {
  const auto found = arrays.find(handle);
  return found == arrays.end() ? nullptr : &found->second;
}
void* standInStream() { return stream; }
// Arrays and errors that were not given back.
int standInLive() { return arrays.size() + errors.size(); }
}
