// tvm-ffi's calling convention as far as the stand-ins for FlashInfer's modules need it, and what they share.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

struct DLTensor {
  char* data;
  int32_t deviceType, deviceId, dimensions;
  uint8_t code, bits;
  uint16_t lanes;
  const int64_t* shape;
  const int64_t* strides;
  uint64_t offset;
};
struct Any {
  int32_t type;
  uint32_t zero;
  union {
    int64_t integer;
    double real;
    void* pointer;
  };
};
static_assert(sizeof(DLTensor) == 48 && sizeof(Any) == 16);

// A tensor as it outlives the call that it came with.
struct View {
  char* data;
  std::vector<int64_t> shape, strides;
};

enum { none = 0, integer = 1, boolean = 2, real = 3, tensor = 7, array = 71 };

extern "C" {
// Of the runtime.
void standInRaise(const char* kind, const char* message);
void* standInArray(const int64_t* numbers, int count);
const std::vector<int64_t>* standInNumbers(void* handle);
void* standInStream();
// Of the driver.
int fakeEnqueue(void* stream, const std::function<std::string()>* work);
int fakeCapturing();
int fakeCovers(uint64_t address, size_t size, int host);
int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t size, void* stream);
}

struct Refused : std::runtime_error {
  std::string kind;
  Refused(const std::string& kind, const std::string& what) : std::runtime_error(what), kind(kind) {}
};

[[noreturn]] inline void refuse(const std::string& what, const char* kind = "InternalError") { throw Refused(kind, what); }
inline void check(bool holds, const std::string& what) {
  if (!holds) refuse("Check failed: " + what);
}

struct ElementType {
  int code, bits;
};
constexpr ElementType bf16{4, 16}, f32{2, 32}, i32{0, 32}, u8{1, 8};
enum { onHost = 1, onDevice = 2 };

// The arguments of one call, taken one after the other.
class Arguments {
 public:
  Arguments(const char* name, const Any* values, int count, int expected) : name(name), values(values) {
    if (count != expected) {
      refuse("Mismatched number of arguments when calling: `" + std::string(name) + "(...)`. Expected " +
                 std::to_string(expected) + " but got " + std::to_string(count) + " arguments",
             "TypeError");
    }
  }
  int64_t whole() { return next(integer).integer; }
  bool flag() { return next(boolean).integer != 0; }
  double number() { return next(real).real; }
  const std::vector<int64_t>& numbers() {
    const auto* found = standInNumbers(next(array).pointer);
    check(found, "the array was given back already");
    return *found;
  }
  void nothing() { next(none); }
  // A tensor with every property that a kernel would take for granted: memory of its device from the first element to the last.
  View view(const char* what, int device, ElementType type, std::vector<int64_t> shape, bool dense = false) {
    const Any& value = values[at];
    if (value.type != tensor) wrongType("DLTensor*");
    at++;
    const DLTensor found = *static_cast<const DLTensor*>(value.pointer);
    const std::string of = std::string(name) + ": " + what;
    check(found.deviceType == device && found.deviceId == 0, of + " is on the wrong device");
    check(found.code == type.code && found.bits == type.bits && found.lanes == 1, of + " has the wrong type");
    check(found.offset == 0, of + " has a byte offset");
    check(found.dimensions == static_cast<int>(shape.size()), of + " has the wrong rank");
    int64_t last = 0, run = 1;
    bool empty = false;
    for (int k = found.dimensions - 1; k >= 0; k--) {
      check(shape[k] < 0 || shape[k] == found.shape[k], of + " has the wrong shape");
      check(!dense || found.shape[k] <= 1 || found.strides[k] == run, of + " must be contiguous");
      run *= found.shape[k];
      empty = empty || found.shape[k] == 0;
      last += (found.shape[k] - 1) * found.strides[k];
    }
    check(found.strides[found.dimensions - 1] == 1, of + " must be contiguous at the last dimension");
    const View kept = {found.data, {found.shape, found.shape + found.dimensions}, {found.strides, found.strides + found.dimensions}};
    if (empty) return kept;
    const uint64_t address = reinterpret_cast<uint64_t>(found.data);
    if (type.code != i32.code && type.bits != 8) check(address % 16 == 0, of + " is not aligned");
    const bool inside = fakeCovers(address, (last + 1) * type.bits / 8, device == onHost);
    // The host's own arrays are anywhere.
    check(inside || (device == onHost && type.bits == 32), of + " ends outside of its memory");
    return kept;
  }
  bool isNothing() const { return values[at].type == none; }

 private:
  const Any& next(int type) {
    if (values[at].type != type) wrongType(type == integer ? "int" : type == boolean ? "bool" : type == real ? "float" : type == array ? "Array<int>" : "None");
    return values[at++];
  }
  [[noreturn]] void wrongType(const char* expected) {
    refuse("Mismatched type on argument #" + std::to_string(at) + " when calling: `" + name + "(...)`. Expected `" + expected + "`",
           "TypeError");
  }

 public:
  const char* name;

 private:
  const Any* values;
  int at = 0;
};

inline float floatOf(const char* data, int64_t element) {
  uint16_t bits;
  std::memcpy(&bits, data + 2 * element, 2);
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}
inline void storeFloat(char* data, int64_t element, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint16_t rounded = std::isnan(value) ? 0x7fc0 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  std::memcpy(data + 2 * element, &rounded, 2);
}
inline int32_t intOf(const View& list, int64_t element) {
  int32_t value;
  std::memcpy(&value, list.data + 4 * element, 4);
  return value;
}

inline void enqueue(const std::function<std::string()>& work) {
  const int result = fakeEnqueue(standInStream(), &work);
  check(result == 0, "a launch failed with error " + std::to_string(result));
}

// A kernel that is compiled nowhere: FlashInfer's modules refer to such ones and never call them.
extern "C" void kernelLeftOut();

// One exported function: what it refuses is raised as tvm-ffi raises it.
template <typename Body>
int exported(Body body) {
  try {
    if (standInStream() == reinterpret_cast<void*>(-1)) kernelLeftOut();
    body();
    return 0;
  } catch (const Refused& refused) {
    standInRaise(refused.kind.c_str(), refused.what());
    return -1;
  }
}
