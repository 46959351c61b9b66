// Fills a buffer with normal variates (a sum of four uniforms) of the given spread, in the given type.

override FORMAT: u32;
override WORDS: u32;
override SEED: u32;
override SPREAD: f32;

@group(0) @binding(0) var<storage, read_write> output: array<u32>;

fn normal(index: u32) -> f32 {
  let a = mix(index ^ mix(SEED));
  let b = mix(a + 0x9e3779b9u);
  let sum = f32(a & 0xffffu) + f32(a >> 16u) + f32(b & 0xffffu) + f32(b >> 16u);
  return (sum / 65536f - 2f) * 1.7320508 * SPREAD;
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let word = id.y * groups.x * 256u + id.x;
  if (word >= WORDS) {
    return;
  }
  if (FORMAT == FLOAT32) {
    output[word] = bitcast<u32>(normal(word));
  } else {
    output[word] = pack_pair(FORMAT, normal(2u * word), normal(2u * word + 1u));
  }
}
