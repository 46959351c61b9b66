// output[row, n] = Σ_k input[row, k] · weights[n, k], for few rows: every weight is read once, 16 bytes at a time.
//
// What can be fused before it: RMSNorm (NORM: the gain is applied to the input, 1/rms to the finished sum, so that the
// norm costs no barrier of its own) or the merge of split-KV attention states (MERGE). After it: a bias (BIAS), the
// residual (RESIDUAL), or SiLU(gate) · up (GATED: weights hold N gate rows, then N up rows).

override K: u32;
override N: u32;
override FIRST_ROW: u32 = 0u;
override THREADS: u32 = 128u;
// Weight rows and input rows of one workgroup.
override ROWS: u32 = 4u;
override COLUMNS: u32 = 1u;
override NORM: bool = false;
override MERGE: bool = false;
override BIAS: bool = false;
override RESIDUAL: bool = false;
override GATED: bool = false;
// Read the last row of every sequence instead of every row (lm_head).
override LAST_ROWS: bool = false;
override EPSILON: f32 = 1e-6;
override HEAD_DIM: u32 = 8u;
override MOST_SPLITS: u32 = 8u;
override OUTPUT_STRIDE: u32 = 0u;
override OUTPUT_OFFSET: u32 = 0u;

const PRODUCTS: u32 = ROWS * COLUMNS;
const SUMS: u32 = PRODUCTS + COLUMNS * u32(NORM);
// Gate rows of a workgroup; as many up rows follow.
const HALF: u32 = max(ROWS / 2u, 1u);

@group(0) @binding(0) var<uniform> header: BatchHeader;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> residual: array<f32>;
@group(0) @binding(6) var<storage, read_write> output: array<f32>;
// With MERGE: base-2 log-sum-exp of each split, [rows, heads, splits]; `input` is [rows, heads, splits, HEAD_DIM].
@group(0) @binding(7) var<storage, read> lse: array<f32>;
@group(0) @binding(8) var<storage, read> batch: array<i32>;

fn weight_row(group: u32, r: u32) -> u32 {
  if (GATED) {
    let n = min(group * HALF + r % HALF, N - 1u);
    return n + (r / HALF) * N;
  }
  return FIRST_ROW + min(group * ROWS + r, N - 1u);
}

fn input_row(row: u32) -> u32 {
  if (LAST_ROWS) {
    return u32(batch[header.qoIndptrAt + row + 1u]) - 1u;
  }
  return row;
}

// Eight channels of the merged attention output: Σ_s 2^(lse_s - max) · output_s / Σ_s 2^(lse_s - max). Everything is
// asked for before anything is used: one wait instead of one per split.
fn merged_at(row: u32, chunk: u32) -> Eight {
  let splits = header.splitCount;
  let first = (row * (K / HEAD_DIM) + chunk / (HEAD_DIM / 8u)) * splits;
  var logs: array<f32, MOST_SPLITS>;
  var lows: array<vec4<f32>, MOST_SPLITS>;
  var highs: array<vec4<f32>, MOST_SPLITS>;
  for (var s = 0u; s < MOST_SPLITS; s++) { // unroll
    let state = first + min(s, splits - 1u);
    let at = (state * (HEAD_DIM / 8u) + chunk % (HEAD_DIM / 8u)) * 2u;
    logs[s] = select(-3e38f, lse[state], s < splits);
    lows[s] = input[at];
    highs[s] = input[at + 1u];
  }
  var greatest = -3e38f;
  for (var s = 0u; s < MOST_SPLITS; s++) { // unroll
    greatest = max(greatest, logs[s]);
  }
  var low = vec4(0f);
  var high = vec4(0f);
  var total = 0f;
  for (var s = 0u; s < MOST_SPLITS; s++) { // unroll
    let weight = exp2(logs[s] - greatest);
    total += weight;
    low += weight * lows[s];
    high += weight * highs[s];
  }
  // Every split carries the same sentinel when a row sees no key at all.
  let scale = select(1f / total, 0f, greatest < -1e37f);
  return eight_of_float32(low * scale, high * scale);
}

@compute @workgroup_size(THREADS)
fn main(place: Place, @builtin(workgroup_id) workgroup: vec3<u32>) {
  const OUTPUTS: u32 = select(PRODUCTS, PRODUCTS / 2u, GATED);
  const PER_COLUMN: u32 = OUTPUTS / COLUMNS;
  let first = workgroup.y * COLUMNS;
  // With one row per workgroup the grid is exact, and nothing need wait for the header.
  var count = first + 1u;
  if (COLUMNS > 1u) {
    count = select(header.rows, header.sequences, LAST_ROWS);
  }
  // What is added to the sum of thread i is asked for before the loop: at its end it would be waited for.
  let c_out = place.thread / PER_COLUMN;
  let n_out = workgroup.x * PER_COLUMN + place.thread % PER_COLUMN;
  let writes = place.thread < OUTPUTS && n_out < N && first + c_out < count;
  var added = 0f;
  if (RESIDUAL && writes) {
    added = residual[(first + c_out) * N + n_out];
  }
  var sums: array<f32, SUMS>;
  var at: array<u32, COLUMNS>;
  for (var c = 0u; c < COLUMNS; c++) { // unroll
    at[c] = input_row(min(first + c, count - 1u));
  }
  for (var chunk = place.thread; chunk < CHUNKS; chunk += THREADS) {
    var w: array<Eight, ROWS>;
    for (var r = 0u; r < ROWS; r++) { // unroll
      w[r] = weights_at(weight_row(workgroup.x, r), chunk);
    }
    var g: Eight;
    if (NORM) {
      g = eight_of_float32(gain[2u * chunk], gain[2u * chunk + 1u]);
    }
    for (var c = 0u; c < COLUMNS; c++) { // unroll
      var x: Eight;
      if (MERGE) {
        x = merged_at(at[c], chunk);
      } else {
        x = eight_of_float32(input[(at[c] * CHUNKS + chunk) * 2u], input[(at[c] * CHUNKS + chunk) * 2u + 1u]);
      }
      if (NORM) {
        sums[min(PRODUCTS + c, SUMS - 1u)] += dot(x.even, x.even) + dot(x.odd, x.odd);
        x = Eight(x.even * g.even, x.odd * g.odd);
      }
      for (var r = 0u; r < ROWS; r++) { // unroll
        sums[c * ROWS + r] += dot(w[r].even, x.even) + dot(w[r].odd, x.odd);
      }
    }
  }
  add_over_workgroup(&sums, place);
  if (!writes) {
    return;
  }
  let product = c_out * ROWS + place.thread % PER_COLUMN;
  var scale = 1f;
  if (NORM) {
    scale = inverseSqrt(total_of(min(PRODUCTS + c_out, SUMS - 1u), place) / f32(K) + EPSILON);
  }
  var value = total_of(product, place) * scale;
  if (BIAS) {
    value += bias[FIRST_ROW + n_out];
  }
  if (GATED) {
    var up = total_of(product + HALF, place) * scale;
    if (BIAS) {
      up += bias[N + n_out];
    }
    value = silu(value) * up;
  }
  output[(first + c_out) * OUTPUT_STRIDE + OUTPUT_OFFSET + n_out] = value + added;
}
