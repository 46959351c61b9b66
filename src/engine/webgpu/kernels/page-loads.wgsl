// Eight channels of a key or a value, at an element of `keys` or `values`.

fn key_eight(at: u32) -> Eight {
  if (CACHE_FORMAT == FLOAT32) {
    return eight_of_float32(bitcast<vec4<f32>>(keys[at / 4u]), bitcast<vec4<f32>>(keys[at / 4u + 1u]));
  }
  return eight_of(CACHE_FORMAT, keys[at / 8u]);
}

fn value_eight(at: u32) -> Eight {
  if (CACHE_FORMAT == FLOAT32) {
    return eight_of_float32(bitcast<vec4<f32>>(values[at / 4u]), bitcast<vec4<f32>>(values[at / 4u + 1u]));
  }
  return eight_of(CACHE_FORMAT, values[at / 8u]);
}
