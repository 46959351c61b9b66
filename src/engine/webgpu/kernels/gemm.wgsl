// output[row, n] = Σ_k input[row, k] · weights[n, k], for many rows: 64 × 64 tiles in workgroup memory, 4 × 4 results
// per thread, float32 throughout. The portable variant; gemm-matrix.wgsl does the same on tensor cores.

override K: u32;
override N: u32;
override INPUT_STRIDE: u32;

const TILE: u32 = 64u;
const TILE_COLUMNS: u32 = TILE;
const DEPTH: u32 = 16u;
const PITCH: u32 = TILE + 4u;

@group(0) @binding(0) var<uniform> header: BatchHeader;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> residual: array<f32>;
@group(0) @binding(6) var<storage, read_write> output: array<f32>;

// [k, row], so that a thread reads its four rows as neighbours.
var<workgroup> a: array<f32, DEPTH * PITCH>;
var<workgroup> b: array<f32, DEPTH * PITCH>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) workgroup: vec3<u32>) {
  let count = header.rows;
  let row0 = workgroup.y * TILE;
  let ty = thread / 16u;
  let tx = thread % 16u;
  // Staging: threads 0-127 load the input, one chunk of eight each, threads 128-255 the weights.
  let line = thread % 128u / 2u;
  let input_row = min(row0 + line, count - 1u);
  let source = weight_row(workgroup.x, line);
  var sums: array<vec4<f32>, 4>;
  for (var chunk = 0u; chunk < CHUNKS; chunk += DEPTH / 8u) {
    let c = chunk + thread % 2u;
    var eight = Eight(vec4(0f), vec4(0f));
    if (c < CHUNKS) {
      if (thread < 128u) {
        let at = input_row * (INPUT_STRIDE / 4u) + 2u * c;
        eight = eight_of_float32(input[at], input[at + 1u]);
      } else {
        eight = weights_at(source, c);
      }
    }
    workgroupBarrier();
    let to = thread % 2u * 8u * PITCH + line;
    for (var i = 0u; i < 4u; i++) { // unroll
      if (thread < 128u) {
        a[to + 2u * i * PITCH] = eight.even[i];
        a[to + (2u * i + 1u) * PITCH] = eight.odd[i];
      } else {
        b[to + 2u * i * PITCH] = eight.even[i];
        b[to + (2u * i + 1u) * PITCH] = eight.odd[i];
      }
    }
    workgroupBarrier();
    // Rows past the last one are nobody's: in a batch of few rows, most of the tile.
    if (row0 + ty * 4u < count) {
      for (var k = 0u; k < DEPTH; k++) {
        let x = k * PITCH + ty * 4u;
        let w = k * PITCH + tx * 4u;
        let four = vec4(b[w], b[w + 1u], b[w + 2u], b[w + 3u]);
        for (var r = 0u; r < 4u; r++) { // unroll
          sums[r] += a[x + r] * four;
        }
      }
    }
  }
  for (var r = 0u; r < 4u; r++) { // unroll
    let row = row0 + ty * 4u + r;
    if (GATED && row < count) {
      for (var j = 0u; j < 2u; j++) { // unroll
        let n = workgroup.x * (TILE / 2u) + tx * 2u + j;
        if (n < N) {
          store_gated(row, n, sums[r][2u * j], sums[r][2u * j + 1u]);
        }
      }
    } else if (row < count) {
      for (var j = 0u; j < 4u; j++) { // unroll
        let n = workgroup.x * TILE + tx * 4u + j;
        if (n < N) {
          store_product(row, n, sums[r][j]);
        }
      }
    }
  }
}
