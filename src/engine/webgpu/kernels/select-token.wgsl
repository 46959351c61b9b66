// Takes the best part of each sequence as its token, notes it in the history, and advances the batch by one token, so
// that the next step can be encoded before this one is read back: token, position, length and slot.

override PARTS: u32 = 64u;
override ADVANCE: bool = true;
override HISTORY_WIDTH: u32;
override HISTORY_STEPS: u32;

@group(0) @binding(0) var<uniform> header: BatchHeader;
@group(0) @binding(1) var<storage, read> parts: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> batch: array<i32>;
// [HISTORY_STEPS, HISTORY_WIDTH] pairs (token, flag), reused in a ring.
@group(0) @binding(3) var<storage, read_write> history: array<vec2<u32>>;

var<workgroup> best: array<vec4<u32>, PARTS>;

@compute @workgroup_size(PARTS)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) workgroup: vec3<u32>) {
  let sequence = workgroup.x;
  best[thread] = parts[sequence * PARTS + thread];
  for (var stride = PARTS / 2u; stride > 0u; stride /= 2u) {
    workgroupBarrier();
    if (thread < stride) {
      let mine = best[thread];
      let other = best[thread + stride];
      var chosen = mine;
      if (other.x > mine.x || (other.x == mine.x && other.y < mine.y)) {
        chosen = other;
      }
      chosen.z = mine.z | other.z;
      best[thread] = chosen;
    }
  }
  if (thread != 0u) {
    return;
  }
  // With nothing finite in the row there is no token; 0 and the flag say so.
  let token = select(best[0].y, 0u, best[0].x == 0u);
  let step = u32(batch[header.generatedAt + sequence]);
  history[step % HISTORY_STEPS * HISTORY_WIDTH + sequence] = vec2(token, best[0].z);
  batch[header.generatedAt + sequence] = i32(step + 1u);
  if (ADVANCE) {
    let length = u32(batch[header.kvLengthAt + sequence]);
    let page = page_entry(u32(batch[header.kvIndptrAt + sequence]), length);
    batch[header.tokenIdsAt + sequence] = i32(token);
    batch[header.positionsAt + sequence] += 1;
    batch[header.kvLengthAt + sequence] = i32(length + 1u);
    // After the last reserved page nothing is appended any more: the host encodes no further step.
    if (i32(page) < batch[header.kvIndptrAt + sequence + 1u]) {
      let first = batch[header.kvIndicesAt + page] * i32(page_size());
      batch[header.slotsAt + sequence] = first + i32(place_in_page(length));
    }
  }
}
