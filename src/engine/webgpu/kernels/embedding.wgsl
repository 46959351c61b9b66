// output[row] = table[token of row], as float32. One thread makes eight channels.

override K: u32;
override VOCABULARY: u32;

@group(0) @binding(0) var<uniform> header: BatchHeader;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> batch: array<i32>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let chunk = id.x;
  let row = id.y;
  if (chunk >= CHUNKS || row >= header.rows) {
    return;
  }
  let token = min(u32(batch[header.tokenIdsAt + row]), VOCABULARY - 1u);
  let eight = weights_at(token, chunk);
  let to = (row * CHUNKS + chunk) * 2u;
  output[to] = low_of(eight);
  output[to + 1u] = high_of(eight);
}
