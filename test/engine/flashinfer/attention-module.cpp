// FlashInfer's batch_decode and batch_prefill modules for tests: which of the two, and for what head, says the file's own name.
// Every argument is checked as the library or its kernels would need it; attention is computed by its definition, in the
// order of the stream. A plan leaves its sizes in the int workspace, and a run refuses a page table of other sizes.
#include <algorithm>
#include <cstdlib>
#include <dlfcn.h>
#include "tvm.hpp"

namespace {

struct Self {
  bool prefill, window, softCap;
  int headDim;
};

const Self& self() {
  static const Self found = [] {
    Dl_info info;
    dladdr(reinterpret_cast<void*>(&self), &info);
    const std::string path = info.dli_fname;
    const auto has = [&](const char* part) { return path.find(part) != std::string::npos; };
    return Self{has("batch_prefill"), has("use_swa_True"), has("use_logits_cap_True"),
                std::atoi(path.c_str() + path.find("head_dim_qk_") + 12)};
  }();
  return found;
}

// Arguments of a version: of the prefill's plan, and optional tensors of its runs.
struct Counts {
  int plan, tensors;
};
Counts counts() {
  const char* set = std::getenv("FAKE_FLASHINFER");
  const std::string version = set ? set : "0.6.18";
  if (version == "0.6.4") return {19, 6};
  if (version == "0.6.12") return {19, 8};
  if (version == "0.7.4") return {21, 8};
  return version == "0.6.18" ? Counts{20, 8} : Counts{22, 9};
}

// What a plan leaves in the int workspace: sizes, then pages of each sequence and query rows of each.
enum { isPrefill, isGraph, batchSize, queryRows, heads, kvHeads, pageSize, isCausal, sizes };
constexpr int magic = 1469598103;

void copyPlan(const View& device, const View& pinned, const std::vector<int32_t>& words) {
  check(words.size() * 4 <= static_cast<size_t>(device.shape[0]), "the int workspace is too small");
  std::memcpy(pinned.data, words.data(), words.size() * 4);
  const int result = cuMemcpyHtoDAsync_v2(reinterpret_cast<uint64_t>(device.data), pinned.data, words.size() * 4, standInStream());
  check(result == 0, "plan failed with error " + std::to_string(result));
}

Any planned(const std::vector<int32_t>& words) {
  std::vector<int64_t> numbers(self().prefill ? 15 : 10);
  for (int i = 0; i < sizes; i++) numbers[i] = words[1 + i];
  Any made = {array, 0, {}};
  made.pointer = standInArray(numbers.data(), numbers.size());
  return made;
}

// Sequences, rows and pages one after the other: differences of the two index arrays.
std::vector<int32_t> planWords(std::vector<int32_t> head, const View& qo, const View& kv, int64_t batch) {
  for (int64_t b = 0; b < batch; b++) head.push_back(intOf(kv, b + 1) - intOf(kv, b));
  for (int64_t b = 0; b < batch; b++) head.push_back(self().prefill ? intOf(qo, b + 1) - intOf(qo, b) : 1);
  return head;
}

struct Run {
  View intWorkspace, query, keys, values, qoIndptr, indptr, indices, lastPageLen, output, lse;
  std::vector<int64_t> plan;
  bool paged, hnd, causal, hasLse;
  int64_t window;
  double softCap, scale;
};

std::string difference(const char* what, int64_t found, int64_t expected) {
  return std::string(what) + " " + std::to_string(found) + ", the plan has " + std::to_string(expected);
}

void attendRow(const Run& run, int64_t row, int64_t head, int64_t sequence, int64_t position, int64_t length) {
  const int64_t dim = self().headDim, group = run.query.shape[1] / run.plan[kvHeads], kv = head / group;
  const int pageAxis = run.hnd ? 2 : 1, headAxis = run.hnd ? 1 : 2;
  const auto at = [&](const View& cache, int64_t key) {
    const int64_t first = intOf(run.indptr, sequence);
    if (!run.paged) return (first + key) * cache.strides[0] + kv * cache.strides[1];
    const int64_t page = intOf(run.indices, first + key / run.plan[pageSize]);
    return page * cache.strides[0] + key % run.plan[pageSize] * cache.strides[pageAxis] + kv * cache.strides[headAxis];
  };
  const int64_t from = row * run.query.strides[0] + head * run.query.strides[1];
  std::vector<float> scores;
  std::vector<int64_t> seen;
  for (int64_t key = 0; key < length; key++) {
    if (run.causal && key > position) continue;
    if (self().window && run.window >= 0 && key < position - run.window) continue;
    float score = 0;
    for (int64_t i = 0; i < dim; i++) {
      score += floatOf(run.query.data, from + i) * floatOf(run.keys.data, at(run.keys, key) + i);
    }
    score *= static_cast<float>(run.scale);
    if (self().softCap && run.softCap > 0) score = run.softCap * std::tanh(score / run.softCap);
    scores.push_back(score);
    seen.push_back(key);
  }
  float top = -INFINITY, sum = 0;
  for (const float score : scores) top = std::max(top, score);
  std::vector<float> value(dim);
  for (size_t k = 0; k < seen.size(); k++) {
    const float weight = std::exp(scores[k] - top);
    sum += weight;
    for (int64_t i = 0; i < dim; i++) value[i] += weight * floatOf(run.values.data, at(run.values, seen[k]) + i);
  }
  const int64_t to = row * run.query.shape[1] + head;
  for (int64_t i = 0; i < dim; i++) storeFloat(run.output.data, to * dim + i, seen.empty() ? 0 : value[i] / sum);
  const float lse = seen.empty() ? -INFINITY : (top + std::log(sum)) * static_cast<float>(M_LOG2E);
  if (run.hasLse) std::memcpy(run.lse.data + 4 * to, &lse, 4);
}

std::string attend(const Run& run) {
  std::vector<int32_t> words(1 + sizes);
  std::memcpy(words.data(), run.intWorkspace.data, words.size() * 4);
  if (words[0] != magic) return "the int workspace holds no plan";
  for (int i = 0; i < sizes; i++) {
    // In a graph, later plans differ in what they say of the sequences alone.
    if (words[1 + i] != run.plan[i]) return difference("a plan of another kind: size", words[1 + i], run.plan[i]);
  }
  const int64_t batch = words[1 + batchSize];
  std::vector<int32_t> lists(2 * batch);
  std::memcpy(lists.data(), run.intWorkspace.data + 4 * words.size(), lists.size() * 4);
  int64_t row = 0;
  for (int64_t b = 0; b < batch; b++) {
    const int64_t pages = intOf(run.indptr, b + 1) - intOf(run.indptr, b);
    if (pages != lists[b]) return difference("pages", pages, lists[b]);
    const int64_t rows = self().prefill ? intOf(run.qoIndptr, b + 1) - intOf(run.qoIndptr, b) : 1;
    if (rows != lists[batch + b]) return difference("query rows", rows, lists[batch + b]);
    int64_t length = pages;
    if (run.paged) {
      const int64_t size = run.plan[pageSize], last = intOf(run.lastPageLen, b);
      if (pages == 0 ? last != 0 : last < 1 || last > size) return "a last page of " + std::to_string(last) + " tokens";
      length = pages == 0 ? 0 : (pages - 1) * size + last;
      for (int64_t p = 0; p < pages; p++) {
        const int64_t page = intOf(run.indices, intOf(run.indptr, b) + p);
        if (page < 0 || page >= run.keys.shape[0]) return "page " + std::to_string(page) + " is not in the cache";
      }
    }
    for (int64_t r = 0; r < rows; r++, row++) {
      for (int64_t h = 0; h < run.query.shape[1]; h++) attendRow(run, row, h, b, length - rows + r, length);
    }
  }
  return row == run.query.shape[0] ? "" : difference("rows", run.query.shape[0], row);
}

void planDecode(const Any* values, int count, Any* result) {
  Arguments given("plan", values, count, 15);
  given.view("float_workspace", onDevice, u8, {128 << 20});
  const View device = given.view("int_workspace", onDevice, u8, {8 << 20});
  const View pinned = given.view("page_locked_int_workspace", onHost, u8, {8 << 20});
  const View kv = given.view("indptr", onHost, i32, {-1}, true);
  const int64_t batch = given.whole(), q = given.whole(), k = given.whole(), page = given.whole();
  const bool graph = given.flag();
  given.whole();
  given.number();
  for (int i = 0; i < 2; i++) check(given.whole() == self().headDim, "Unsupported head_dim");
  given.view("empty_q", onDevice, bf16, {0});
  given.view("empty_kv", onDevice, bf16, {0});
  check(kv.shape[0] == batch + 1, "indptr has the wrong length");
  const int64_t group = q / k;
  if (group > 8 || group == 5 || group == 7) refuse("Unsupported group_size: " + std::to_string(group), "RuntimeError");
  const auto words = planWords({magic, 0, graph, static_cast<int>(batch), static_cast<int>(batch), static_cast<int>(q),
                                static_cast<int>(k), static_cast<int>(page), 0}, kv, kv, batch);
  copyPlan(device, pinned, words);
  *result = planned(words);
}

void planPrefill(const Any* values, int count, Any* result) {
  Arguments given("plan", values, count, counts().plan);
  given.view("float_workspace", onDevice, u8, {128 << 20});
  const View device = given.view("int_workspace", onDevice, u8, {8 << 20});
  const View pinned = given.view("page_locked_int_workspace", onHost, u8, {8 << 20});
  const View qo = given.view("qo_indptr", onHost, i32, {-1}, true);
  const View kv = given.view("kv_indptr", onHost, i32, {-1}, true);
  const View lengths = given.view("kv_len", onHost, i32, {-1}, true);
  const int64_t rows = given.whole(), batch = given.whole(), q = given.whole(), k = given.whole(), page = given.whole();
  const bool graph = given.flag();
  for (int i = 0; i < 2; i++) check(given.whole() == self().headDim, "Unsupported head_dim");
  const bool causal = given.flag();
  given.whole();
  given.whole();
  given.flag();
  if (counts().plan >= 19) given.whole();
  if (counts().plan >= 20) given.whole();
  if (counts().plan >= 21) given.flag();
  check(qo.shape[0] == batch + 1 && kv.shape[0] == batch + 1 && lengths.shape[0] == batch, "index arrays differ in length");
  check(intOf(qo, batch) == rows, "total_num_rows is not that of qo_indptr");
  const auto words = planWords({magic, 1, graph, static_cast<int>(batch), static_cast<int>(rows), static_cast<int>(q),
                                static_cast<int>(k), static_cast<int>(page), causal}, qo, kv, batch);
  copyPlan(device, pinned, words);
  *result = planned(words);
}

Run startRun(Arguments& given) {
  Run run = {};
  given.view("float_workspace", onDevice, u8, {128 << 20});
  run.intWorkspace = given.view("int_workspace", onDevice, u8, {8 << 20});
  run.plan = given.numbers();
  check(run.plan.size() == (self().prefill ? 15u : 10u), "plan_info has the wrong size");
  check(run.plan[isPrefill] == self().prefill, "a plan of the other module");
  check(run.plan[isGraph] || !fakeCapturing(), "a capture of a plan that is not for graphs");
  const int64_t q = run.plan[heads];
  run.query = given.view("q", onDevice, bf16, {run.plan[queryRows], q, self().headDim});
  return run;
}

void takePages(Arguments& given, Run& run) {
  run.keys = given.view("paged_k_cache", onDevice, bf16, {-1, -1, -1, self().headDim});
  run.values = given.view("paged_v_cache", onDevice, bf16, {run.keys.shape[0], run.keys.shape[1], run.keys.shape[2], self().headDim});
  run.paged = true;
}

void takeTable(Arguments& given, Run& run) {
  run.indptr = given.view("paged_kv_indptr", onDevice, i32, {run.plan[batchSize] + 1}, true);
  run.indices = given.view("paged_kv_indices", onDevice, i32, {-1}, true);
  run.lastPageLen = given.view("paged_kv_last_page_len", onDevice, i32, {run.plan[batchSize]}, true);
}

void takeOutput(Arguments& given, Run& run) {
  run.output = given.view("o", onDevice, bf16, {run.query.shape[0], run.query.shape[1], self().headDim}, true);
  run.hasLse = !given.isNothing();
  if (run.hasLse) run.lse = given.view("lse", onDevice, f32, {run.query.shape[0], run.query.shape[1]}, true);
  else given.nothing();
}

void takeLayout(Arguments& given, Run& run) {
  run.hnd = given.whole() == 1;
  if (!run.paged) return;
  check(run.keys.shape[run.hnd ? 2 : 1] == run.plan[pageSize], "the cache has another page size than the plan");
  check(run.keys.shape[run.hnd ? 1 : 2] == run.plan[kvHeads], "the cache has other heads than the plan");
}

void takeScalars(Arguments& given, Run& run) {
  run.softCap = given.number();
  run.scale = given.number();
  check(given.number() == 1, "rope_rcp_scale");
  check(given.number() == 1, "rope_rcp_theta");
}

void runDecode(const Any* values, int count) {
  Arguments given("run", values, count, 19);
  Run run = startRun(given);
  takePages(given, run);
  for (int k = 0; k < 4; k++) check(run.keys.strides[k] == run.values.strides[k], "K/V strides differ at dim " + std::to_string(k));
  takeTable(given, run);
  takeOutput(given, run);
  takeLayout(given, run);
  run.window = given.whole();
  given.flag();
  given.nothing();
  takeScalars(given, run);
  // The last key is the query's own.
  run.causal = true;
  enqueue([run] { return attend(run); });
}

void runPrefill(const char* name, bool paged, const Any* values, int count) {
  Arguments given(name, values, count, (paged ? 21 : 19) + counts().tensors);
  Run run = startRun(given);
  if (paged) takePages(given, run);
  else {
    run.keys = given.view("k", onDevice, bf16, {-1, run.plan[kvHeads], self().headDim});
    run.values = given.view("v", onDevice, bf16, {run.keys.shape[0], run.plan[kvHeads], self().headDim});
  }
  run.qoIndptr = given.view("qo_indptr", onDevice, i32, {run.plan[batchSize] + 1}, true);
  if (paged) takeTable(given, run);
  else run.indptr = given.view("kv_indptr", onDevice, i32, {run.plan[batchSize] + 1}, true);
  takeOutput(given, run);
  run.causal = given.whole() == 1;
  check(run.causal == (run.plan[isCausal] != 0), "the plan has another mask");
  takeLayout(given, run);
  run.window = given.whole();
  given.flag();
  for (int i = 0; i < counts().tensors; i++) given.nothing();
  takeScalars(given, run);
  given.whole();
  enqueue([run] { return attend(run); });
}

}  // namespace

extern "C" {
int __tvm_ffi_plan(void*, const Any* values, int32_t count, Any* result) {
  return exported([&] { self().prefill ? planPrefill(values, count, result) : planDecode(values, count, result); });
}
int __tvm_ffi_run(void*, const Any* values, int32_t count, Any*) {
  return exported([&] { runDecode(values, count); });
}
int __tvm_ffi_paged_run(void*, const Any* values, int32_t count, Any*) {
  return exported([&] { runPrefill("paged_run", true, values, count); });
}
int __tvm_ffi_ragged_run(void*, const Any* values, int32_t count, Any*) {
  return exported([&] { runPrefill("ragged_run", false, values, count); });
}
}
