// Writes the rows of K (or V) into the slots of a paged cache.
// One thread writes eight channels, so that no two threads share a word.

override HEADS: u32;
override HEAD_DIM: u32;
override INPUT_STRIDE: u32;
override INPUT_OFFSET: u32 = 0u;
override INPUT_HEAD_STRIDE: u32;
// Whether rows are values, not keys.
override VALUES: bool = false;

@group(0) @binding(0) var<uniform> header: BatchHeader;
@group(0) @binding(1) var<uniform> addressing: AttentionParameters;
@group(0) @binding(2) var<storage, read> input: array<f32>;
@group(0) @binding(3) var<storage, read> batch: array<i32>;
@group(0) @binding(4) var<storage, read_write> keys: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> values: array<vec4<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.y;
  if (id.x >= HEADS * (HEAD_DIM / 8u) || row >= header.rows) {
    return;
  }
  let head = id.x / (HEAD_DIM / 8u);
  let channel = id.x % (HEAD_DIM / 8u) * 8u;
  let to = row_of_slot(u32(batch[header.slotsAt + row]), head);
  let source = row * INPUT_STRIDE + INPUT_OFFSET + head * INPUT_HEAD_STRIDE + channel;
  let eight = eight_of_float32(
    vec4(input[source], input[source + 1u], input[source + 2u], input[source + 3u]),
    vec4(input[source + 4u], input[source + 5u], input[source + 6u], input[source + 7u]),
  );
  if (VALUES) {
    store_value(to.value + channel, eight);
  } else {
    store_key(to.key + channel, eight);
  }
}
