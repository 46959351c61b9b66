// The power of two that brings a largest magnitude (given as its bits) to between 2^14 and 2^15, and its inverse. Rows
// that are all but zero keep a power that float32 can hold; so do rows with infinities, which stay infinite.
fn power_for(bits: u32) -> vec2<f32> {
  if (bits == 0u) {
    return vec2(1f, 1f);
  }
  let exponent = clamp(i32(bits >> 23u) - 127, -100, 127);
  return vec2(bitcast<f32>(u32(127 + 14 - exponent) << 23u), bitcast<f32>(u32(127 - 14 + exponent) << 23u));
}
