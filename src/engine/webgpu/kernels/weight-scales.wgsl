// Per row of a 16-bit weight matrix: the power of two for its largest element, and the inverse. One workgroup per row.

override K: u32;
override WEIGHT_FORMAT: u32;

const THREADS: u32 = 64u;

@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> scales: array<vec2<f32>>;

var<workgroup> greatest: atomic<u32>;

@compute @workgroup_size(THREADS)
fn main(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
) {
  let row = workgroup.y * workgroups.x + workgroup.x;
  if (thread == 0u) {
    atomicStore(&greatest, 0u);
  }
  workgroupBarrier();
  var top = vec4(0u);
  for (var i = thread; i < K / 8u; i += THREADS) {
    let eight = eight_of(WEIGHT_FORMAT, weights[row * (K / 8u) + i]);
    top = max(top, bitcast<vec4<u32>>(eight.even) & vec4(0x7fffffffu));
    top = max(top, bitcast<vec4<u32>>(eight.odd) & vec4(0x7fffffffu));
  }
  atomicMax(&greatest, max(max(top.x, top.y), max(top.z, top.w)));
  workgroupBarrier();
  if (thread == 0u) {
    scales[row] = power_for(atomicLoad(&greatest));
  }
}
