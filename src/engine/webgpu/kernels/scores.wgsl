// Scores in base 2, and what stands for those that no key has.

// tanh to float32's digits: by its series near 0, where 1 - 2/(e^2x + 1) cancels. WGSL's own is only good to 1e-5.
fn precise_tanh(x: f32) -> f32 {
  let y = x * x;
  let series = x * (1f - y * (0.33333334 - y * (0.13333334 - y * (0.053968254 - y * 0.021869488))));
  let large = 1f - 2f / (exp(clamp(2f * x, -80f, 80f)) + 1f);
  return select(large, series, abs(x) < 0.3);
}

// sm_scale and soft cap; the result is in base 2: score · log2(e).
fn scaled_score(product: f32) -> f32 {
  var score = product * addressing.scale;
  if (addressing.softCap > 0f) {
    score = addressing.softCap * precise_tanh(score / addressing.softCap);
  }
  return score * 1.4426950408889634f;
}

// Stands for -infinity, which WGSL's finite-math rules do not allow in arithmetic.
const NOTHING: f32 = -3e38f;

fn is_nothing(score: f32) -> bool {
  return score < -1e37f;
}
