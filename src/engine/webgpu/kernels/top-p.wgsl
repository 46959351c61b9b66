// The smallest set of most likely tokens whose probability reaches top-p (nucleus sampling, Holtzman et al. 2019), as a
// threshold on the logit: a radix search, 8 bits a pass, over probability mass in fixed point (2^-31), which does not
// depend on the order of addition. One workgroup per sequence.

override VOCABULARY: u32;

const THREADS: u32 = 256u;

@group(0) @binding(0) var<uniform> header: BatchHeader;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> sampling: array<Sampling>;

var<workgroup> bins: array<atomic<u32>, 256>;
var<workgroup> values: array<f32, THREADS>;
// Prefix of the threshold found so far, and the mass mass_above it.
var<workgroup> prefix_bits: u32;
var<workgroup> mass_above: u32;
var<workgroup> asked: Sampling;

fn finite(value: f32) -> bool {
  return (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) workgroup: vec3<u32>) {
  let source = workgroup.x * VOCABULARY;
  if (thread == 0u) {
    asked = sampling[workgroup.x];
  }
  let temperature = workgroupUniformLoad(&asked).temperature;
  let wanted = workgroupUniformLoad(&asked).topP;
  if (temperature <= 0f || wanted >= 1f) {
    if (thread == 0u) {
      sampling[workgroup.x].threshold = 0u;
    }
    return;
  }
  var top = -3e38f;
  for (var i = thread; i < VOCABULARY; i += THREADS) {
    if (finite(logits[source + i])) {
      top = max(top, logits[source + i]);
    }
  }
  values[thread] = top;
  for (var stride = THREADS / 2u; stride > 0u; stride /= 2u) {
    workgroupBarrier();
    if (thread < stride) {
      values[thread] = max(values[thread], values[thread + stride]);
    }
  }
  workgroupBarrier();
  top = values[0];
  workgroupBarrier();
  var sum = 0f;
  for (var i = thread; i < VOCABULARY; i += THREADS) {
    if (finite(logits[source + i])) {
      sum += exp((logits[source + i] - top) / temperature);
    }
  }
  values[thread] = sum;
  for (var stride = THREADS / 2u; stride > 0u; stride /= 2u) {
    workgroupBarrier();
    if (thread < stride) {
      values[thread] += values[thread + stride];
    }
  }
  workgroupBarrier();
  let unit = 2147483648f / values[0];
  if (thread == 0u) {
    prefix_bits = 0u;
    mass_above = 0u;
  }
  let target_mass = u32(clamp(wanted, 0f, 1f) * 2147480000f);
  for (var round = 0u; round < 4u; round++) {
    let shift = 24u - 8u * round;
    atomicStore(&bins[thread], 0u);
    workgroupBarrier();
    let known = prefix_bits;
    for (var i = thread; i < VOCABULARY; i += THREADS) {
      let logit = logits[source + i];
      let key = ordered(logit);
      if (finite(logit) && (round == 0u || (key >> (shift + 8u)) == known)) {
        atomicAdd(&bins[(key >> shift) & 255u], u32(exp((logit - top) / temperature) * unit + 0.5));
      }
    }
    workgroupBarrier();
    if (thread == 0u) {
      var mass = mass_above;
      var bin = 255u;
      while (bin > 0u && mass + atomicLoad(&bins[bin]) < target_mass) {
        mass += atomicLoad(&bins[bin]);
        bin -= 1u;
      }
      mass_above = mass;
      prefix_bits = (known << 8u) | bin;
    }
    workgroupBarrier();
  }
  if (thread == 0u) {
    sampling[workgroup.x].threshold = prefix_bits;
  }
}
