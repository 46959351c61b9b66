enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
requires subgroup_id;
// output[row, n] = Σ_k input[row, k] · weights[n, k] on tensor cores: 16 × 16 × 16 products of float16, summed in float32.
//
// Float16 cannot overflow here: every input row (half-rows.wgsl) and every weight row (weight-scales.wgsl) is multiplied
// by a power of two that brings its largest element to about 2^14; the sums are divided by both powers, exactly.
// A workgroup is eight subgroups of 32, two down and four across, over a tile of 32·DOWN × 128. Operands are staged in
// workgroup memory 16 bytes at a time: in arrays of f16 every store would be 2 bytes, three times slower overall.

override K: u32;
override N: u32;
override WEIGHT_FORMAT: u32 = 0u;
// Fragments of one subgroup, down; it has two across.
override DOWN: u32 = 4u;

const TILE_ROWS: u32 = 32u * DOWN;
const TILE_COLUMNS: u32 = 128u;
const DEPTH: u32 = 32u;
// In vectors of eight halves; one of padding keeps the rows of a fragment in different banks.
const PITCH: u32 = DEPTH / 8u + 1u;
const CHUNKS: u32 = K / 8u;
const INPUT_EACH: u32 = DOWN / 2u;

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sum = subgroup_matrix_result<f32, 16, 16>;

@group(0) @binding(0) var<uniform> header: BatchHeader;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
// Rows of float16, and what to multiply each row's sums with.
@group(0) @binding(2) var<storage, read> input: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> residual: array<f32>;
@group(0) @binding(6) var<storage, read_write> output: array<f32>;
// Per weight row: its power of two, and the inverse.
@group(0) @binding(7) var<storage, read> weight_scales: array<vec2<f32>>;

var<workgroup> left: array<vec4<u32>, TILE_ROWS * PITCH>;
var<workgroup> right: array<vec4<u32>, TILE_COLUMNS * PITCH>;
var<workgroup> patch_sums: array<f32, 8u * 256u>;

fn halves_of(raw: vec4<u32>, scale: f32) -> vec4<u32> {
  let eight = eight_of(WEIGHT_FORMAT, raw);
  let even = eight.even * scale;
  let odd = eight.odd * scale;
  return vec4(
    pack2x16float(vec2(even.x, odd.x)),
    pack2x16float(vec2(even.y, odd.y)),
    pack2x16float(vec2(even.z, odd.z)),
    pack2x16float(vec2(even.w, odd.w)),
  );
}

@compute @workgroup_size(256)
fn main(
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
  @builtin(workgroup_id) workgroup: vec3<u32>,
) {
  let row0 = workgroup.y * TILE_ROWS;
  // Staging: four chunks of eight per tile row; this thread's lines are `line` and `line` + 64.
  let line = thread / 4u;
  let part = thread % 4u;
  var scale: array<f32, 2>;
  var weight_at: array<u32, 2>;
  for (var i = 0u; i < 2u; i++) { // unroll
    let row = weight_row(workgroup.x, line + 64u * i);
    scale[i] = weight_scales[row].x;
    weight_at[i] = row * CHUNKS + part;
  }
  let input_at = (row0 + line) * CHUNKS + part;
  // Named, not an array: arrays of matrices end up in slow memory. Two fragments across, DOWN down.
  var s00: Sum;
  var s01: Sum;
  var s10: Sum;
  var s11: Sum;
  var s20: Sum;
  var s21: Sum;
  var s30: Sum;
  var s31: Sum;
  var a: array<vec4<u32>, INPUT_EACH>;
  var b: array<vec4<u32>, 2>;
  for (var i = 0u; i < INPUT_EACH; i++) { // unroll
    a[i] = input[input_at + 64u * i * CHUNKS];
  }
  for (var i = 0u; i < 2u; i++) { // unroll
    b[i] = weights[weight_at[i]];
  }
  let left0 = (subgroup / 4u) * 16u * DOWN * PITCH;
  let right0 = (subgroup % 4u) * 32u * PITCH;
  for (var chunk = 0u; chunk < CHUNKS; chunk += DEPTH / 8u) {
    workgroupBarrier();
    for (var i = 0u; i < INPUT_EACH; i++) { // unroll
      left[(line + 64u * i) * PITCH + part] = a[i];
    }
    for (var i = 0u; i < 2u; i++) { // unroll
      right[(line + 64u * i) * PITCH + part] = halves_of(b[i], scale[i]);
    }
    workgroupBarrier();
    // The next slice is fetched while this one is multiplied.
    let next = min(chunk + DEPTH / 8u, CHUNKS - DEPTH / 8u);
    for (var i = 0u; i < INPUT_EACH; i++) { // unroll
      a[i] = input[input_at + 64u * i * CHUNKS + next];
    }
    for (var i = 0u; i < 2u; i++) { // unroll
      b[i] = weights[weight_at[i] + next];
    }
    // Offsets and strides of fragments count vectors, like the arrays.
    for (var k = 0u; k < DEPTH / 8u; k += 2u) {
      let r0 = subgroupMatrixLoad<Right, col_major>(&right, right0 + k, PITCH);
      let r1 = subgroupMatrixLoad<Right, col_major>(&right, right0 + 16u * PITCH + k, PITCH);
      let l0 = subgroupMatrixLoad<Left, row_major>(&left, left0 + 0u * PITCH + k, PITCH);
      s00 = subgroupMatrixMultiplyAccumulate(l0, r0, s00);
      s01 = subgroupMatrixMultiplyAccumulate(l0, r1, s01);
      let l1 = subgroupMatrixLoad<Left, row_major>(&left, left0 + 16u * PITCH + k, PITCH);
      s10 = subgroupMatrixMultiplyAccumulate(l1, r0, s10);
      s11 = subgroupMatrixMultiplyAccumulate(l1, r1, s11);
      if (DOWN > 2u) {
        let l2 = subgroupMatrixLoad<Left, row_major>(&left, left0 + 32u * PITCH + k, PITCH);
        s20 = subgroupMatrixMultiplyAccumulate(l2, r0, s20);
        s21 = subgroupMatrixMultiplyAccumulate(l2, r1, s21);
      }
      if (DOWN > 3u) {
        let l3 = subgroupMatrixLoad<Left, row_major>(&left, left0 + 48u * PITCH + k, PITCH);
        s30 = subgroupMatrixMultiplyAccumulate(l3, r0, s30);
        s31 = subgroupMatrixMultiplyAccumulate(l3, r1, s31);
      }
    }
  }
  subgroupMatrixStore<row_major>(&patch_sums, subgroup * 256u, s00, 16u);
  write_fragment(workgroup, subgroup, lane, 0u, 0u);
  subgroupMatrixStore<row_major>(&patch_sums, subgroup * 256u, s01, 16u);
  write_fragment(workgroup, subgroup, lane, 0u, 1u);
  subgroupMatrixStore<row_major>(&patch_sums, subgroup * 256u, s10, 16u);
  write_fragment(workgroup, subgroup, lane, 1u, 0u);
  subgroupMatrixStore<row_major>(&patch_sums, subgroup * 256u, s11, 16u);
  write_fragment(workgroup, subgroup, lane, 1u, 1u);
  if (DOWN > 2u) {
    subgroupMatrixStore<row_major>(&patch_sums, subgroup * 256u, s20, 16u);
    write_fragment(workgroup, subgroup, lane, 2u, 0u);
    subgroupMatrixStore<row_major>(&patch_sums, subgroup * 256u, s21, 16u);
    write_fragment(workgroup, subgroup, lane, 2u, 1u);
  }
  if (DOWN > 3u) {
    subgroupMatrixStore<row_major>(&patch_sums, subgroup * 256u, s30, 16u);
    write_fragment(workgroup, subgroup, lane, 3u, 0u);
    subgroupMatrixStore<row_major>(&patch_sums, subgroup * 256u, s31, 16u);
    write_fragment(workgroup, subgroup, lane, 3u, 1u);
  }
}

// Stores the fragment that lies in this subgroup's patch; the barriers also keep the next one from overtaking.
fn write_fragment(workgroup: vec3<u32>, subgroup: u32, lane: u32, down: u32, across: u32) {
  workgroupBarrier();
  let row = workgroup.y * TILE_ROWS + (subgroup / 4u) * 16u * DOWN + down * 16u + lane / 2u;
  let j0 = (subgroup % 4u) * 32u + across * 16u + (lane % 2u) * 8u;
  write_eight(workgroup.x, row, j0, subgroup * 256u + lane * 8u);
  workgroupBarrier();
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
        let gate = patch_sums[at + j] * row_scale * weight_scales[n].y;
        let up = patch_sums[at + j + 1u] * row_scale * weight_scales[N + n].y;
        store_gated(row, n, gate, up);
      }
    }
  } else {
    for (var j = 0u; j < 8u; j++) {
      let n = tile * TILE_COLUMNS + j0 + j;
      if (n < N) {
        store_product(row, n, patch_sums[at + j] * row_scale * weight_scales[FIRST_ROW + n].y);
      }
    }
  }
}
