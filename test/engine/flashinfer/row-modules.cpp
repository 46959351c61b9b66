// FlashInfer's page, norm and rope modules for tests: every argument checked, computed by definition in the order of the stream.
#include "tvm.hpp"

namespace {

void append(const Any* values, int count) {
  Arguments given("append_paged_kv_cache", values, count, 10);
  const View key = given.view("append_key", onDevice, bf16, {-1, -1, -1});
  const View value = given.view("append_value", onDevice, bf16, {key.shape[0], key.shape[1], key.shape[2]});
  const View sequences = given.view("batch_indices", onDevice, i32, {key.shape[0]}, true);
  const View positions = given.view("positions", onDevice, i32, {key.shape[0]}, true);
  const View keys = given.view("paged_k_cache", onDevice, bf16, {-1, -1, -1, key.shape[2]});
  const View held = given.view("paged_v_cache", onDevice, bf16, {keys.shape[0], keys.shape[1], keys.shape[2], key.shape[2]});
  const View indices = given.view("kv_indices", onDevice, i32, {-1}, true);
  const View indptr = given.view("kv_indptr", onDevice, i32, {-1}, true);
  given.view("kv_last_page_len", onDevice, i32, {indptr.shape[0] - 1}, true);
  const bool hnd = given.whole() == 1;
  for (int k = 0; k < 4; k++) check(keys.strides[k] == held.strides[k], "k/v strides must be identical");
  check(keys.shape[hnd ? 1 : 2] == key.shape[1], "the cache has other heads");
  enqueue([=]() -> std::string {
    const int64_t size = keys.shape[hnd ? 2 : 1];
    for (int64_t row = 0; row < key.shape[0]; row++) {
      const int64_t flat = intOf(indptr, intOf(sequences, row)) * size + intOf(positions, row);
      const int64_t page = intOf(indices, flat / size);
      for (int64_t head = 0; head < key.shape[1]; head++) {
        const int64_t to = page * keys.strides[0] + flat % size * keys.strides[hnd ? 2 : 1] + head * keys.strides[hnd ? 1 : 2];
        for (int64_t i = 0; i < key.shape[2]; i++) {
          storeFloat(keys.data, to + i, floatOf(key.data, row * key.strides[0] + head * key.strides[1] + i));
          storeFloat(held.data, to + i, floatOf(value.data, row * value.strides[0] + head * value.strides[1] + i));
        }
      }
    }
    return "";
  });
}

// The norm of a row of float32 numbers, stored where `to` begins.
void normRow(const std::vector<float>& row, const View& weight, char* data, int64_t to, double epsilon) {
  double sum = 0;
  for (const float x : row) sum += static_cast<double>(x) * x;
  const float scale = 1 / std::sqrt(sum / row.size() + epsilon);
  for (size_t i = 0; i < row.size(); i++) storeFloat(data, to + i, row[i] * scale * floatOf(weight.data, i));
}

void norm(const char* name, bool adds, const Any* values, int count) {
  Arguments given(name, values, count, 5);
  const View first = given.view(adds ? "input" : "output", onDevice, bf16, {-1, -1});
  const View second = given.view(adds ? "residual" : "input", onDevice, bf16, {first.shape[0], first.shape[1]});
  const View weight = given.view("weight", onDevice, bf16, {first.shape[1]}, true);
  const double epsilon = given.number();
  given.flag();
  enqueue([=]() -> std::string {
    for (int64_t r = 0; r < first.shape[0]; r++) {
      std::vector<float> row(first.shape[1]);
      for (int64_t i = 0; i < first.shape[1]; i++) {
        row[i] = floatOf(second.data, r * second.strides[0] + i);
        if (!adds) continue;
        row[i] += floatOf(first.data, r * first.strides[0] + i);
        storeFloat(second.data, r * second.strides[0] + i, row[i]);
      }
      normRow(row, weight, first.data, r * first.strides[0], epsilon);
    }
    return "";
  });
}

void rotate(const Any* values, int count) {
  Arguments given("apply_rope_pos_ids", values, count, 9);
  const View q = given.view("q", onDevice, bf16, {-1, -1, -1});
  const View k = given.view("k", onDevice, bf16, {q.shape[0], -1, q.shape[2]});
  const View turnedQ = given.view("q_rope", onDevice, bf16, {q.shape[0], q.shape[1], q.shape[2]});
  const View turnedK = given.view("k_rope", onDevice, bf16, {k.shape[0], k.shape[1], k.shape[2]});
  const View positions = given.view("pos_ids", onDevice, i32, {q.shape[0]}, true);
  const int64_t dims = given.whole();
  const bool interleaved = given.flag();
  const double scale = given.number(), theta = given.number();
  enqueue([=]() -> std::string {
    for (const auto& [from, to] : {std::pair(q, turnedQ), std::pair(k, turnedK)}) {
      for (int64_t at = 0; at < from.shape[0] * from.shape[1]; at++) {
        const int64_t row = at / from.shape[1], head = at % from.shape[1];
        const int64_t in = row * from.strides[0] + head * from.strides[1], out = row * to.strides[0] + head * to.strides[1];
        for (int64_t i = dims; i < from.shape[2]; i++) storeFloat(to.data, out + i, floatOf(from.data, in + i));
        for (int64_t pair = 0; pair < dims / 2; pair++) {
          const int64_t a = interleaved ? 2 * pair : pair, b = interleaved ? 2 * pair + 1 : pair + dims / 2;
          const double angle = intOf(positions, row) / scale * std::pow(theta, -2.0 * pair / dims);
          const double x = floatOf(from.data, in + a), y = floatOf(from.data, in + b);
          storeFloat(to.data, out + a, x * std::cos(angle) - y * std::sin(angle));
          storeFloat(to.data, out + b, y * std::cos(angle) + x * std::sin(angle));
        }
      }
    }
    return "";
  });
}

}  // namespace

extern "C" {
int __tvm_ffi_append_paged_kv_cache(void*, const Any* values, int32_t count, Any*) {
  return exported([&] { append(values, count); });
}
int __tvm_ffi_rmsnorm(void*, const Any* values, int32_t count, Any*) {
  return exported([&] { norm("rmsnorm", false, values, count); });
}
int __tvm_ffi_fused_add_rmsnorm(void*, const Any* values, int32_t count, Any*) {
  return exported([&] { norm("fused_add_rmsnorm", true, values, count); });
}
int __tvm_ffi_apply_rope_pos_ids(void*, const Any* values, int32_t count, Any*) {
  return exported([&] { rotate(values, count); });
}
}
