enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
requires subgroup_id;
// output[row, n] = Σ_k input[row, k] · weights[n, k] on tensor cores: 16 × 16 × 16 products of float16, summed in float32.
//
// Float16 cannot overflow here: every input row and every weight row is multiplied by a power of two that brings its
// largest element to about 2^14, and the sums are divided by both powers afterwards, exactly. A workgroup is eight
// subgroups of 32, two down and four across, over a tile of TILE_ROWS × 128.

override K: u32;
override N: u32;
override FIRST_ROW: u32 = 0u;
override WEIGHT_FORMAT: u32 = 0u;
override BIAS: bool = false;
override RESIDUAL: bool = false;
// SiLU(gate) · up: weights hold N gate rows, then N up rows; they alternate in the tile.
override GATED: bool = false;
override OUTPUT_STRIDE: u32;
override OUTPUT_OFFSET: u32 = 0u;
override TILE_ROWS: u32 = 128u;

const TILE_COLUMNS: u32 = 128u;
const DEPTH: u32 = 32u;
// Padding keeps the rows of a fragment in different banks.
const PITCH: u32 = DEPTH + 8u;
const CHUNKS: u32 = K / 8u;
const FRAGMENTS: u32 = TILE_ROWS / 32u;
const INPUT_EACH: u32 = TILE_ROWS / 64u;

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sum = subgroup_matrix_result<f32, 16, 16>;

@group(0) @binding(0) var<uniform> header: BatchHeader;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
// Rows of float16 pairs, and what to multiply each row's sums with.
@group(0) @binding(2) var<storage, read> input: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> residual: array<f32>;
@group(0) @binding(6) var<storage, read_write> output: array<f32>;
// Per weight row: its power of two, and the inverse.
@group(0) @binding(7) var<storage, read> weight_scales: array<vec2<f32>>;

var<workgroup> left: array<f16, TILE_ROWS * PITCH>;
var<workgroup> right: array<f16, TILE_COLUMNS * PITCH>;
var<workgroup> patch_sums: array<f32, 8u * 256u>;

// Column j of the tile as a row of the weights.
fn weight_row(tile: u32, j: u32) -> u32 {
  if (GATED) {
    return min(tile * (TILE_COLUMNS / 2u) + j / 2u, N - 1u) + (j % 2u) * N;
  }
  return FIRST_ROW + min(tile * TILE_COLUMNS + j, N - 1u);
}

fn store_left(at: u32, raw: vec4<u32>) {
  for (var i = 0u; i < 4u; i++) {
    let pair = bitcast<vec2<f16>>(raw[i]);
    left[at + 2u * i] = pair.x;
    left[at + 2u * i + 1u] = pair.y;
  }
}

fn store_right(at: u32, raw: vec4<u32>, scale: f32) {
  let eight = eight_of(WEIGHT_FORMAT, raw);
  let even = vec4<f16>(eight.even * scale);
  let odd = vec4<f16>(eight.odd * scale);
  for (var i = 0u; i < 4u; i++) {
    right[at + 2u * i] = even[i];
    right[at + 2u * i + 1u] = odd[i];
  }
}

@compute @workgroup_size(256)
fn main(
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
  @builtin(workgroup_id) workgroup: vec3<u32>,
) {
  let row0 = workgroup.y * TILE_ROWS;
  // Staging: chunks of eight, four per tile row; this thread's lines are `line` and `line` + 64.
  let line = thread / 4u;
  let part = thread % 4u;
  var scale: array<f32, 2>;
  var weight_at: array<u32, 2>;
  for (var i = 0u; i < 2u; i++) {
    let row = weight_row(workgroup.x, line + 64u * i);
    scale[i] = weight_scales[row].x;
    weight_at[i] = row * CHUNKS + part;
  }
  let input_at = (row0 + line) * CHUNKS + part;
  var sums: array<Sum, FRAGMENTS * 2u>;
  var a: array<vec4<u32>, INPUT_EACH>;
  var b: array<vec4<u32>, 2>;
  for (var i = 0u; i < INPUT_EACH; i++) {
    a[i] = input[input_at + 64u * i * CHUNKS];
  }
  for (var i = 0u; i < 2u; i++) {
    b[i] = weights[weight_at[i]];
  }
  let left0 = (subgroup / 4u) * (TILE_ROWS / 2u) * PITCH;
  let right0 = (subgroup % 4u) * 32u * PITCH;
  for (var chunk = 0u; chunk < CHUNKS; chunk += DEPTH / 8u) {
    workgroupBarrier();
    for (var i = 0u; i < INPUT_EACH; i++) {
      store_left((line + 64u * i) * PITCH + part * 8u, a[i]);
    }
    for (var i = 0u; i < 2u; i++) {
      store_right((line + 64u * i) * PITCH + part * 8u, b[i], scale[i]);
    }
    workgroupBarrier();
    // The next slice is fetched while this one is multiplied.
    let next = min(chunk + DEPTH / 8u, CHUNKS - DEPTH / 8u);
    for (var i = 0u; i < INPUT_EACH; i++) {
      a[i] = input[input_at + 64u * i * CHUNKS + next];
    }
    for (var i = 0u; i < 2u; i++) {
      b[i] = weights[weight_at[i] + next];
    }
    for (var k = 0u; k < DEPTH; k += 16u) {
      let r0 = subgroupMatrixLoad<Right>(&right, right0 + k, true, PITCH);
      let r1 = subgroupMatrixLoad<Right>(&right, right0 + 16u * PITCH + k, true, PITCH);
      for (var f = 0u; f < FRAGMENTS; f++) {
        let l = subgroupMatrixLoad<Left>(&left, left0 + f * 16u * PITCH + k, false, PITCH);
        sums[2u * f] = subgroupMatrixMultiplyAccumulate(l, r0, sums[2u * f]);
        sums[2u * f + 1u] = subgroupMatrixMultiplyAccumulate(l, r1, sums[2u * f + 1u]);
      }
    }
  }
  for (var f = 0u; f < FRAGMENTS * 2u; f++) {
    workgroupBarrier();
    subgroupMatrixStore(&patch_sums, subgroup * 256u, sums[f], false, 16u);
    workgroupBarrier();
    let row = row0 + (subgroup / 4u) * (TILE_ROWS / 2u) + (f / 2u) * 16u + lane / 2u;
    let j0 = (subgroup % 4u) * 32u + (f % 2u) * 16u + (lane % 2u) * 8u;
    write_eight(workgroup.x, row, j0, subgroup * 256u + lane * 8u);
  }
}

// Scales, finishes and stores eight neighbours of a row of a fragment: columns j0 … j0 + 7 of the tile.
fn write_eight(tile: u32, row: u32, j0: u32, at: u32) {
  if (row >= header.rows) {
    return;
  }
  let row_scale = scales[row];
  if (GATED) {
    for (var j = 0u; j < 8u; j += 2u) {
      let n = tile * (TILE_COLUMNS / 2u) + (j0 + j) / 2u;
      if (n < N) {
        var gate = patch_sums[at + j] * row_scale * weight_scales[n].y;
        var up = patch_sums[at + j + 1u] * row_scale * weight_scales[N + n].y;
        if (BIAS) {
          gate += bias[n];
          up += bias[N + n];
        }
        output[row * OUTPUT_STRIDE + OUTPUT_OFFSET + n] = silu(gate) * up;
      }
    }
  } else {
    for (var j = 0u; j < 8u; j++) {
      let n = tile * TILE_COLUMNS + j0 + j;
      if (n < N) {
        var value = patch_sums[at + j] * row_scale * weight_scales[FIRST_ROW + n].y;
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
