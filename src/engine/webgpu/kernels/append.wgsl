// Writes the rows of K (or V) into the slots of a paged cache: slot = page · page size + place in the page.
// One thread writes eight channels, so that no two threads share a word.

override HEADS: u32;
override HEAD_DIM: u32;
override INPUT_STRIDE: u32;
override INPUT_OFFSET: u32 = 0u;
override INPUT_HEAD_STRIDE: u32 = 0u;
override CACHE_FORMAT: u32 = 0u;

@group(0) @binding(0) var<uniform> header: BatchHeader;
@group(0) @binding(1) var<uniform> addressing: AttentionParameters;
@group(0) @binding(2) var<storage, read> input: array<f32>;
@group(0) @binding(3) var<storage, read> batch: array<i32>;
@group(0) @binding(4) var<storage, read_write> cache: array<vec4<u32>>;

// 1 to write values (the addressing's value strides), 0 to write keys.
override VALUES: bool = false;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.y;
  if (id.x >= HEADS * (HEAD_DIM / 8u) || row >= header.rows) {
    return;
  }
  let head = id.x / (HEAD_DIM / 8u);
  let channel = id.x % (HEAD_DIM / 8u) * 8u;
  let slot = u32(batch[header.slotsAt + row]);
  let page = slot / header.pageSize;
  let place = slot % header.pageSize;
  var to = addressing.keyOffset + page * addressing.keyPageStride + place * addressing.keySlotStride + head * addressing.keyHeadStride;
  if (VALUES) {
    to = addressing.valueOffset + page * addressing.valuePageStride + place * addressing.valueSlotStride + head * addressing.valueHeadStride;
  }
  to += channel;
  let source = row * INPUT_STRIDE + INPUT_OFFSET + head * select(HEAD_DIM, INPUT_HEAD_STRIDE, INPUT_HEAD_STRIDE != 0u) + channel;
  let low = vec4(input[source], input[source + 1u], input[source + 2u], input[source + 3u]);
  let high = vec4(input[source + 4u], input[source + 5u], input[source + 6u], input[source + 7u]);
  if (CACHE_FORMAT == FLOAT32) {
    cache[to / 4u] = bitcast<vec4<u32>>(low);
    cache[to / 4u + 1u] = bitcast<vec4<u32>>(high);
  } else {
    cache[to / 8u] = pack_eight(CACHE_FORMAT, eight_of_float32(low, high));
  }
}
