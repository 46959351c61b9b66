// Where the key and value rows of a sequence lie: FlashInfer's CSR page table over pages of any strides, or, with PAGED
// false, rows that follow one another (ragged K/V). Strides are in elements and whole multiples of eight.

override PAGED: bool = true;
override CACHE_FORMAT: u32 = 0u;
// Tokens per page where known beforehand, which turns divisions into shifts; 0 to read it from the header.
override PAGE_SIZE: u32 = 0u;

struct CacheRow {
  key: u32,
  value: u32,
}

fn page_entry(first_page: u32, position: u32) -> u32 {
  let size = select(header.pageSize, PAGE_SIZE, PAGE_SIZE != 0u);
  return header.kvIndicesAt + first_page + position / size;
}

// `page` is what the page table says at `page_entry`; without pages, the row itself.
fn row_in_page(page: u32, position: u32, head: u32) -> CacheRow {
  var slot = 0u;
  if (PAGED) {
    slot = position % select(header.pageSize, PAGE_SIZE, PAGE_SIZE != 0u);
  }
  return CacheRow(
    addressing.keyOffset + page * addressing.keyPageStride + slot * addressing.keySlotStride + head * addressing.keyHeadStride,
    addressing.valueOffset + page * addressing.valuePageStride + slot * addressing.valueSlotStride + head * addressing.valueHeadStride,
  );
}

fn cache_row(first_page: u32, position: u32, head: u32) -> CacheRow {
  var page = first_page + position;
  if (PAGED) {
    page = u32(batch[page_entry(first_page, position)]);
  }
  return row_in_page(page, position, head);
}

fn key_eight(at: u32) -> Eight {
  if (CACHE_FORMAT == FLOAT32) {
    return eight_of_float32(bitcast<vec4<f32>>(keys[at / 4u]), bitcast<vec4<f32>>(keys[at / 4u + 1u]));
  }
  return eight_of(CACHE_FORMAT, keys[at / 8u]);
}

fn value_eight(at: u32) -> Eight {
  if (CACHE_FORMAT == FLOAT32) {
    return eight_of_float32(bitcast<vec4<f32>>(values[at / 4u]), bitcast<vec4<f32>>(values[at / 4u + 1u]));
  }
  return eight_of(CACHE_FORMAT, values[at / 8u]);
}

// tanh to float32's digits: by its series near 0, where 1 - 2/(e^2x + 1) cancels. WGSL's own is only good to 1e-5.
fn precise_tanh(x: f32) -> f32 {
  let y = x * x;
  let series = x * (1f - y * (0.33333334 - y * (0.13333334 - y * (0.053968254 - y * 0.021869488))));
  let large = 1f - 2f / (exp(clamp(2f * x, -80f, 80f)) + 1f);
  return select(large, series, abs(x) < 0.3);
}

// sm_scale and soft cap; the result is in base 2: score · log2(e).
fn scaled_score(product: f32) -> f32 {
  var score = product * addressing.scale;
  if (addressing.softCap > 0f) {
    score = addressing.softCap * precise_tanh(score / addressing.softCap);
  }
  return score * 1.4426950408889634f;
}

// Stands for -infinity, which WGSL's finite-math rules do not allow in arithmetic.
const NOTHING: f32 = -3e38f;

fn is_nothing(score: f32) -> bool {
  return score < -1e37f;
}
