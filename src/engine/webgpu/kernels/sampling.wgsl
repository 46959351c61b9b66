// What a sequence asks of the sampler, and the random numbers it gets: a function of seed, position and token alone, so
// that a run repeats whatever it is batched with.

struct Sampling {
  // 0: greedy.
  temperature: f32,
  topP: f32,
  seed: u32,
  // Filled by top-p.wgsl: tokens whose `ordered` logit is below this are not candidates.
  threshold: u32,
}

// A float's bits as an integer that sorts like the float.
fn ordered(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

// "lowbias32" of Chris Wellons' hash-prospector.
fn mix(seed: u32) -> u32 {
  var x = seed;
  x = (x ^ (x >> 16u)) * 0x7feb352du;
  x = (x ^ (x >> 15u)) * 0x846ca68bu;
  return x ^ (x >> 16u);
}

// -log of an exponential variate: adding it to log-probabilities and taking the greatest draws from them (Gumbel).
fn gumbel(seed: u32, position: u32, token: u32) -> f32 {
  let v = (f32(mix(mix(mix(seed) + position) ^ (token * 0x9e3779b9u))) + 0.5) * 2.3283064365386963e-10;
  // -log(1 - v); WGSL's log is only good to 2^-21 near 1, where the series takes over.
  let series = v * (1f + v * (0.5 + v * (1f / 3f + v * 0.25)));
  let exponential = select(-log(max(1f - v, 1e-30f)), series, v < 0.015625);
  return -log(max(exponential, 1e-30f));
}
