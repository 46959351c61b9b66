// Rows of float32 as float16, each multiplied by the power of two that suits its largest element; `scales` gets the
// inverse. One workgroup per row.

override WIDTH: u32;

const THREADS: u32 = 128u;

@group(0) @binding(0) var<uniform> header: BatchHeader;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> scales: array<f32>;

var<workgroup> greatest: atomic<u32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) workgroup: vec3<u32>) {
  let row = workgroup.y;
  if (thread == 0u) {
    atomicStore(&greatest, 0u);
  }
  workgroupBarrier();
  var top = vec4(0u);
  for (var i = thread; i < WIDTH / 4u; i += THREADS) {
    top = max(top, bitcast<vec4<u32>>(input[row * (WIDTH / 4u) + i]) & vec4(0x7fffffffu));
  }
  // Magnitudes compare like their bits.
  atomicMax(&greatest, max(max(top.x, top.y), max(top.z, top.w)));
  workgroupBarrier();
  let power = power_for(atomicLoad(&greatest));
  for (var i = thread; i < WIDTH / 4u; i += THREADS) {
    let x = input[row * (WIDTH / 4u) + i] * power.x;
    output[row * (WIDTH / 4u) + i] = vec2(pack2x16float(x.xy), pack2x16float(x.zw));
  }
  if (thread == 0u) {
    scales[row] = power.y;
  }
}
