// y = x / sqrt(mean(x²) + ε) · gain over groups of WIDTH channels: a whole row, or a head of it (QK-norm).
// One workgroup per (group, row).

override WIDTH: u32;
override EPSILON: f32 = 1e-6;
override THREADS: u32 = 64u;
override INPUT_STRIDE: u32;
override INPUT_OFFSET: u32 = 0u;
override OUTPUT_STRIDE: u32;
override OUTPUT_OFFSET: u32 = 0u;
override GAIN_OFFSET: u32 = 0u;

const SUMS: u32 = 1u;

@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read> gain: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(THREADS)
fn main(place: Place, @builtin(workgroup_id) workgroup: vec3<u32>) {
  let source = workgroup.y * INPUT_STRIDE + INPUT_OFFSET + workgroup.x * WIDTH;
  let to = workgroup.y * OUTPUT_STRIDE + OUTPUT_OFFSET + workgroup.x * WIDTH;
  var sums: array<f32, SUMS>;
  for (var i = place.thread; i < WIDTH; i += THREADS) {
    sums[0] += input[source + i] * input[source + i];
  }
  add_over_workgroup(&sums, place);
  let scale = inverseSqrt(total_of(0u, place) / f32(WIDTH) + EPSILON);
  for (var i = place.thread; i < WIDTH; i += THREADS) {
    output[to + i] = input[source + i] * scale * gain[GAIN_OFFSET + i];
  }
}
