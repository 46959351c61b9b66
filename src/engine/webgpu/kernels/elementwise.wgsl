// output = silu(a), a · b, a + b or FACTOR · a, by OPERATION 0, 1, 2, 3. Rows are COLUMNS long and may lie apart; there
// is one per token, or one per sequence.

override OPERATION: u32;
override COLUMNS: u32;
override FACTOR: f32 = 1.0;
override PER_SEQUENCE: bool = false;
override FIRST_STRIDE: u32;
override FIRST_OFFSET: u32 = 0u;
override SECOND_STRIDE: u32 = 0u;
override SECOND_OFFSET: u32 = 0u;

@group(0) @binding(0) var<uniform> header: BatchHeader;
@group(0) @binding(1) var<storage, read> first: array<f32>;
@group(0) @binding(2) var<storage, read> second: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(128)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= COLUMNS || id.y >= select(header.rows, header.sequences, PER_SEQUENCE)) {
    return;
  }
  let a = first[id.y * FIRST_STRIDE + FIRST_OFFSET + id.x];
  var value = silu(a);
  if (OPERATION == 3u) {
    value = FACTOR * a;
  } else if (OPERATION != 0u) {
    let b = second[id.y * SECOND_STRIDE + SECOND_OFFSET + id.x];
    value = select(a + b, a * b, OPERATION == 1u);
  }
  output[id.y * COLUMNS + id.x] = value;
}
