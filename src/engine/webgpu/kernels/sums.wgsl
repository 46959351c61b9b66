// Adds SUMS values over all THREADS of a workgroup, in a fixed order; any thread then asks for them with `total_of`.
// Portable variant: a tree over workgroup memory, four values at a time.

struct Place {
  @builtin(local_invocation_index) thread: u32,
}

var<workgroup> tree: array<vec4<f32>, THREADS>;
var<workgroup> totals: array<f32, (SUMS + 3u) / 4u * 4u>;

fn add_over_workgroup(values: ptr<function, array<f32, SUMS>>, place: Place) {
  let thread = place.thread;
  for (var first = 0u; first < SUMS; first += 4u) {
    var four = vec4(0f);
    for (var i = 0u; i < min(4u, SUMS - first); i++) {
      four[i] = (*values)[first + i];
    }
    tree[thread] = four;
    for (var stride = THREADS / 2u; stride > 0u; stride /= 2u) {
      workgroupBarrier();
      if (thread < stride) {
        tree[thread] += tree[thread + stride];
      }
    }
    if (thread == 0u) {
      for (var i = 0u; i < 4u; i++) {
        totals[first + i] = tree[0][i];
      }
    }
    workgroupBarrier();
  }
}

fn total_of(i: u32, place: Place) -> f32 {
  return totals[i];
}
