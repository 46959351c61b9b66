// x / (1 + e^-x). The clamp keeps e^-x finite; at -80 SiLU is already -1e-33.
fn silu(x: f32) -> f32 {
  return x / (1f + exp(min(-x, 80f)));
}
