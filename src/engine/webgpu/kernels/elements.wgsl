// Eight neighbouring elements of a 16- or 32-bit array, as two vectors: even and odd positions. A 32-bit word of a
// 16-bit format holds an even element in its low half and the next one in its high half, so this costs no shuffles.

// 0: bfloat16, 1: float16, 2: float32.
const BFLOAT16: u32 = 0u;
const FLOAT16: u32 = 1u;
const FLOAT32: u32 = 2u;

struct Eight {
  even: vec4<f32>,
  odd: vec4<f32>,
}

fn eight_of_bfloat16(raw: vec4<u32>) -> Eight {
  return Eight(bitcast<vec4<f32>>(raw << vec4(16u)), bitcast<vec4<f32>>(raw & vec4(0xffff0000u)));
}

fn eight_of_float16(raw: vec4<u32>) -> Eight {
  let a = unpack2x16float(raw.x);
  let b = unpack2x16float(raw.y);
  let c = unpack2x16float(raw.z);
  let d = unpack2x16float(raw.w);
  return Eight(vec4(a.x, b.x, c.x, d.x), vec4(a.y, b.y, c.y, d.y));
}

fn eight_of_float32(low: vec4<f32>, high: vec4<f32>) -> Eight {
  return Eight(vec4(low.x, low.z, high.x, high.z), vec4(low.y, low.w, high.y, high.w));
}

fn eight_of(format: u32, raw: vec4<u32>) -> Eight {
  if (format == FLOAT16) {
    return eight_of_float16(raw);
  }
  return eight_of_bfloat16(raw);
}

fn low_of(eight: Eight) -> vec4<f32> {
  return vec4(eight.even.x, eight.odd.x, eight.even.y, eight.odd.y);
}

fn high_of(eight: Eight) -> vec4<f32> {
  return vec4(eight.even.z, eight.odd.z, eight.even.w, eight.odd.w);
}

// Rounds to bfloat16, nearest with ties to even; NaN stays NaN.
fn bfloat16_bits(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return (bits >> 16u) | 0x40u;
  }
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

// Rounds to float16. Beyond 65504 the conversion is undefined in WGSL, so overflow becomes infinity by hand.
fn float16_bits(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    return sign | 0x7e00u;
  }
  if (magnitude >= 0x477ff000u) {
    return sign | 0x7c00u;
  }
  if (magnitude >= 0x38800000u) {
    return sign | ((magnitude + 0xfffu + ((magnitude >> 13u) & 1u) - 0x38000000u) >> 13u);
  }
  // Subnormal in float16: a multiple of 2^-24, rounded by adding 2^-1·2^24.
  return sign | (bitcast<u32>(bitcast<f32>(magnitude) + 0.5) - 0x3f000000u);
}

fn pack_pair(format: u32, first: f32, second: f32) -> u32 {
  if (format == FLOAT16) {
    return float16_bits(first) | (float16_bits(second) << 16u);
  }
  return bfloat16_bits(first) | (bfloat16_bits(second) << 16u);
}

fn pack_eight(format: u32, eight: Eight) -> vec4<u32> {
  return vec4(
    pack_pair(format, eight.even.x, eight.odd.x),
    pack_pair(format, eight.even.y, eight.odd.y),
    pack_pair(format, eight.even.z, eight.odd.z),
    pack_pair(format, eight.even.w, eight.odd.w),
  );
}
