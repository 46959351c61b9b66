// QK-norm, RoPE and the KV append of one packed q|k|v row in one dispatch: one workgroup per (head of q, k and v, row).
// Rotated queries go to `rotated`; keys and values go to their slots, and keys also to `rotated_keys` when CAPTURE asks.

override HEADS: u32;
override KV_HEADS: u32;
override HEAD_DIM: u32;
override ROTARY: u32;
override QK_NORM: bool;
override EPSILON: f32 = 1e-6;
override CAPTURE: bool = false;

const THREADS: u32 = 64u;
const SUMS: u32 = 1u;
const COLUMNS: u32 = (HEADS + 2u * KV_HEADS) * HEAD_DIM;

@group(0) @binding(0) var<uniform> header: BatchHeader;
@group(0) @binding(1) var<uniform> addressing: AttentionParameters;
@group(0) @binding(2) var<storage, read> packed: array<f32>;
@group(0) @binding(3) var<storage, read> batch: array<i32>;
@group(0) @binding(4) var<storage, read_write> keys: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> values: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> rotated: array<f32>;
@group(0) @binding(7) var<storage, read> gains: array<f32>;
@group(0) @binding(8) var<storage, read> angles: array<vec2<f32>>;
@group(0) @binding(9) var<storage, read_write> rotated_keys: array<f32>;

var<workgroup> staged: array<f32, HEAD_DIM>;

@compute @workgroup_size(THREADS)
fn main(place: Place, @builtin(workgroup_id) workgroup: vec3<u32>) {
  let thread = place.thread;
  let head = workgroup.x;
  let row = workgroup.y;
  let is_value = head >= HEADS + KV_HEADS;
  let is_key = head >= HEADS && !is_value;
  let source = row * COLUMNS + head * HEAD_DIM;
  var sums: array<f32, SUMS>;
  for (var i = thread; i < HEAD_DIM; i += THREADS) {
    let x = packed[source + i];
    staged[i] = x;
    sums[0] += x * x;
  }
  workgroupBarrier();
  var scale = 1f;
  if (QK_NORM) {
    add_over_workgroup(&sums, place);
    scale = inverseSqrt(total_of(0u, place) / f32(HEAD_DIM) + EPSILON);
  }
  if (!is_value) {
    let position = u32(batch[header.positionsAt + row]);
    let gain0 = select(0u, HEAD_DIM, is_key);
    const EACH: u32 = (HEAD_DIM + THREADS - 1u) / THREADS;
    var turned: array<f32, EACH>;
    for (var e = 0u; e < EACH; e++) {
      let i = thread + e * THREADS;
      if (i >= HEAD_DIM) {
        continue;
      }
      var x = staged[i];
      if (QK_NORM) {
        x = x * scale * gains[gain0 + i];
      }
      if (i < ROTARY) {
        let turn = angles[position * (ROTARY / 2u) + i % (ROTARY / 2u)];
        let partner = select(i - ROTARY / 2u, i + ROTARY / 2u, i < ROTARY / 2u);
        var other = staged[partner];
        if (QK_NORM) {
          other = other * scale * gains[gain0 + partner];
        }
        x = x * turn.x + select(other, -other, i < ROTARY / 2u) * turn.y;
      }
      turned[e] = x;
      if (is_key && CAPTURE) {
        rotated_keys[row * KV_HEADS * HEAD_DIM + (head - HEADS) * HEAD_DIM + i] = x;
      }
      if (!is_key) {
        rotated[row * HEADS * HEAD_DIM + head * HEAD_DIM + i] = x;
      }
    }
    workgroupBarrier();
    for (var e = 0u; e < EACH; e++) {
      if (thread + e * THREADS < HEAD_DIM) {
        staged[thread + e * THREADS] = turned[e];
      }
    }
    workgroupBarrier();
  }
  if (head < HEADS || thread >= HEAD_DIM / 8u) {
    return;
  }
  let kv_head = (head - HEADS) % KV_HEADS;
  let to = row_of_slot(u32(batch[header.slotsAt + row]), kv_head);
  let c = thread * 8u;
  let eight = eight_of_float32(
    vec4(staged[c], staged[c + 1u], staged[c + 2u], staged[c + 3u]),
    vec4(staged[c + 4u], staged[c + 5u], staged[c + 6u], staged[c + 7u]),
  );
  if (is_key) {
    store_key(to.key + c, eight);
  } else {
    store_value(to.value + c, eight);
  }
}
