// Rotates pairs (j, j + ROTARY/2) of every head by the angle of the row's position; further channels pass through.
// cos and sin come from a table made in float64 on the host: WGSL's own are only good to 2^-11 and only near zero.

override HEADS: u32;
override HEAD_DIM: u32;
override ROTARY: u32;
override INPUT_STRIDE: u32;
override INPUT_OFFSET: u32 = 0u;

@group(0) @binding(0) var<uniform> header: BatchHeader;
@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read> batch: array<i32>;
// [position, ROTARY/2] pairs of cos and sin.
@group(0) @binding(3) var<storage, read> angles: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.y;
  if (id.x >= HEADS * HEAD_DIM || row >= header.rows) {
    return;
  }
  let channel = id.x % HEAD_DIM;
  let source = row * INPUT_STRIDE + INPUT_OFFSET + id.x;
  let x = input[source];
  var y = x;
  if (channel < ROTARY) {
    let position = u32(batch[header.positionsAt + row]);
    let turn = angles[position * (ROTARY / 2u) + channel % (ROTARY / 2u)];
    if (channel < ROTARY / 2u) {
      y = x * turn.x - input[source + ROTARY / 2u] * turn.y;
    } else {
      y = x * turn.x + input[source - ROTARY / 2u] * turn.y;
    }
  }
  output[row * HEADS * HEAD_DIM + id.x] = y;
}
