// output[row, n] = Σ_k input[row, k] · weights[n, k], for many rows: 64 × 64 tiles in workgroup memory, 4 × 4 results
// per thread, float32 throughout. The portable variant; gemm-matrix.wgsl does the same on tensor cores.

override K: u32;
override N: u32;
override FIRST_ROW: u32 = 0u;
override WEIGHT_FORMAT: u32 = 0u;
override BIAS: bool = false;
override RESIDUAL: bool = false;
// SiLU(gate) · up: weights hold N gate rows, then N up rows; a tile is 32 of each.
override GATED: bool = false;
override LAST_ROWS: bool = false;
override INPUT_STRIDE: u32;
override OUTPUT_STRIDE: u32;
override OUTPUT_OFFSET: u32 = 0u;

const TILE: u32 = 64u;
const DEPTH: u32 = 16u;
const PITCH: u32 = TILE + 4u;
const CHUNKS: u32 = K / 8u;

@group(0) @binding(0) var<uniform> header: BatchHeader;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> residual: array<f32>;
@group(0) @binding(6) var<storage, read_write> output: array<f32>;
@group(0) @binding(8) var<storage, read> batch: array<i32>;

// [k, row], so that a thread reads its four rows as neighbours.
var<workgroup> a: array<f32, DEPTH * PITCH>;
var<workgroup> b: array<f32, DEPTH * PITCH>;

fn weights_at(row: u32, chunk: u32) -> Eight {
  let at = row * CHUNKS + chunk;
  if (WEIGHT_FORMAT == FLOAT32) {
    return eight_of_float32(bitcast<vec4<f32>>(weights[2u * at]), bitcast<vec4<f32>>(weights[2u * at + 1u]));
  }
  return eight_of(WEIGHT_FORMAT, weights[at]);
}

// Column j of the tile as a row of the weights; gate and up alternate in the tile, so one thread holds both.
fn weight_row(tile: u32, j: u32) -> u32 {
  if (GATED) {
    return min(tile * (TILE / 2u) + j / 2u, N - 1u) + (j % 2u) * N;
  }
  return FIRST_ROW + min(tile * TILE + j, N - 1u);
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) workgroup: vec3<u32>) {
  let count = select(header.rows, header.sequences, LAST_ROWS);
  let row0 = workgroup.y * TILE;
  let ty = thread / 16u;
  let tx = thread % 16u;
  // Staging: threads 0-127 load the input, one chunk of eight each, threads 128-255 the weights.
  let line = thread % 128u / 2u;
  var input_row = min(row0 + line, count - 1u);
  if (LAST_ROWS) {
    input_row = u32(batch[header.qoIndptrAt + input_row + 1u]) - 1u;
  }
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
    for (var k = 0u; k < DEPTH; k++) {
      let x = k * PITCH + ty * 4u;
      let w = k * PITCH + tx * 4u;
      let four = vec4(b[w], b[w + 1u], b[w + 2u], b[w + 3u]);
      for (var r = 0u; r < 4u; r++) { // unroll
        sums[r] += a[x + r] * four;
      }
    }
  }
  for (var r = 0u; r < 4u; r++) { // unroll
    let row = row0 + ty * 4u + r;
    if (GATED && row < count) {
      for (var j = 0u; j < 2u; j++) { // unroll
        let n = workgroup.x * (TILE / 2u) + tx * 2u + j;
        if (n < N) {
          var gate = sums[r][2u * j];
          var up = sums[r][2u * j + 1u];
          if (BIAS) {
            gate += bias[n];
            up += bias[N + n];
          }
          output[row * OUTPUT_STRIDE + OUTPUT_OFFSET + n] = silu(gate) * up;
        }
      }
    } else if (row < count) {
      for (var j = 0u; j < 4u; j++) { // unroll
        let n = workgroup.x * TILE + tx * 4u + j;
        if (n < N) {
          var value = sums[r][j];
          if (BIAS) {
            value += bias[FIRST_ROW + n];
          }
          if (RESIDUAL) {
            value += residual[row * N + n];
          }
          output[row * OUTPUT_STRIDE + OUTPUT_OFFSET + n] = value;
        }
      }
    }
  }
}
