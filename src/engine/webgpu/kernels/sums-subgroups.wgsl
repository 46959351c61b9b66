enable subgroups;
requires subgroup_id;
// Adds SUMS values over all THREADS of a workgroup; any thread then asks for them with `total_of`.
// Subgroup variant: one instruction within a subgroup, then one partial per subgroup (at least 4 wide), added in order by
// whoever asks: that costs less than a second barrier.

struct Place {
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
  @builtin(subgroup_size) width: u32,
}

var<workgroup> partials: array<f32, SUMS * (THREADS / 4u)>;

fn add_over_workgroup(values: ptr<function, array<f32, SUMS>>, place: Place) {
  for (var i = 0u; i < SUMS; i++) { // unroll
    let sum = subgroupAdd((*values)[i]);
    if (place.lane == 0u) {
      partials[place.subgroup * SUMS + i] = sum;
    }
  }
  workgroupBarrier();
}

fn total_of(i: u32, place: Place) -> f32 {
  var sum = 0f;
  for (var s = 0u; s < THREADS / place.width; s++) {
    sum += partials[s * SUMS + i];
  }
  return sum;
}
