// Reads a buffer once, 16 bytes at a time: what the memory can give.

override CHUNKS: u32;

@group(0) @binding(0) var<storage, read> input: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> output: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
  var bits = vec4(0u);
  for (var i = id.x; i < CHUNKS; i += workgroups.x * 256u) {
    bits ^= input[i];
  }
  // Never true for what the buffer holds, but the compiler cannot know.
  if ((bits.x ^ bits.y ^ bits.z ^ bits.w) == 0x12345678u) {
    output[0] = bits.x;
  }
}
