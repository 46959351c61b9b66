// The greatest logit (plus noise, at a temperature) of each part of a row: PARTS parts per sequence, one workgroup each.
// Equal logits: the lowest token. NaN and infinity would vanish in max, so their bits are looked for and flagged.

override VOCABULARY: u32;
override PARTS: u32 = 64u;

const THREADS: u32 = 256u;

@group(0) @binding(0) var<uniform> header: BatchHeader;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> sampling: array<Sampling>;
@group(0) @binding(3) var<storage, read> batch: array<i32>;
// Per part: value, token, flag.
@group(0) @binding(4) var<storage, read_write> parts: array<vec4<u32>>;

var<workgroup> best: array<vec2<u32>, THREADS>;
var<workgroup> bad: array<u32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) workgroup: vec3<u32>) {
  let sequence = workgroup.y;
  let asked = sampling[sequence];
  let row = u32(batch[header.qoIndptrAt + sequence + 1u]) - 1u;
  let position = u32(batch[header.positionsAt + row]);
  let size = (VOCABULARY + PARTS - 1u) / PARTS;
  let end = min((workgroup.x + 1u) * size, VOCABULARY);
  // Keys are `ordered` values, at least 1 for every float; 0 means nothing yet.
  var key = 0u;
  var token = 0xffffffffu;
  var flag = 0u;
  for (var i = workgroup.x * size + thread; i < end; i += THREADS) {
    let logit = logits[sequence * VOCABULARY + i];
    if ((bitcast<u32>(logit) & 0x7fffffffu) >= 0x7f800000u) {
      flag = 1u;
      continue;
    }
    var value = logit;
    if (asked.temperature > 0f) {
      if (ordered(logit) < asked.threshold) {
        continue;
      }
      value = logit / asked.temperature + gumbel(asked.seed, position, i);
    }
    let k = ordered(value);
    if (k > key) {
      key = k;
      token = i;
    }
  }
  best[thread] = vec2(key, token);
  bad[thread] = flag;
  for (var stride = THREADS / 2u; stride > 0u; stride /= 2u) {
    workgroupBarrier();
    if (thread < stride) {
      let other = best[thread + stride];
      if (other.x > best[thread].x || (other.x == best[thread].x && other.y < best[thread].y)) {
        best[thread] = other;
      }
      bad[thread] |= bad[thread + stride];
    }
  }
  if (thread == 0u) {
    parts[sequence * PARTS + workgroup.x] = vec4(best[0], bad[0], 0u);
  }
}
