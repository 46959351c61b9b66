// Joins attention states over disjoint key sets: output = Σ_s 2^(lse_s - max) v_s / Σ_s 2^(lse_s - max),
// lse = max + log2 Σ. An empty state has lse -infinity (or the sentinel of the decode kernel); all empty gives 0 and
// -infinity. FlashInfer's merge_state. One workgroup per (head, row).

override HEAD_DIM: u32;
// States per head; 0 for the splits of the batch.
override COUNT: u32 = 0u;
// Whether states lie as FlashInfer's, [row, state, head], and not as the decode kernel's, [row, head, state].
override HEADS_LAST: bool = false;

@group(0) @binding(0) var<uniform> header: BatchHeader;
@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read> input_lse: array<u32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;
@group(0) @binding(4) var<storage, read_write> lse: array<u32>;

const EMPTY: f32 = -3e38f;

fn lse_at(at: u32) -> f32 {
  let bits = input_lse[at];
  if (bits == 0xff800000u) {
    return EMPTY;
  }
  return bitcast<f32>(bits);
}

@compute @workgroup_size(64)
fn main(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
) {
  let count = select(header.splitCount, COUNT, COUNT != 0u);
  let step = select(1u, workgroups.x, HEADS_LAST);
  let first = workgroup.y * workgroups.x * count + workgroup.x * select(count, 1u, HEADS_LAST);
  let to = workgroup.y * workgroups.x + workgroup.x;
  var greatest = EMPTY;
  for (var s = 0u; s < count; s++) {
    greatest = max(greatest, lse_at(first + s * step));
  }
  var total = 0f;
  for (var s = 0u; s < count; s++) {
    total += exp2(lse_at(first + s * step) - greatest);
  }
  let empty = greatest < -1e37f;
  for (var i = thread; i < HEAD_DIM; i += 64u) {
    var value = 0f;
    for (var s = 0u; s < count; s++) {
      let at = first + s * step;
      let w = exp2(lse_at(at) - greatest);
      if (w > 0f) {
        value += w * input[at * HEAD_DIM + i];
      }
    }
    output[to * HEAD_DIM + i] = select(value / total, 0f, empty);
  }
  if (thread == 0u) {
    lse[to] = select(bitcast<u32>(greatest + log2(total)), 0xff800000u, empty);
  }
}
