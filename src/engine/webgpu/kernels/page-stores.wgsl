// Eight channels of a key or a value, rounded to the type of the cache, to an element of `keys` or `values`.

fn store_key(at: u32, eight: Eight) {
  if (CACHE_FORMAT == FLOAT32) {
    keys[at / 4u] = bitcast<vec4<u32>>(low_of(eight));
    keys[at / 4u + 1u] = bitcast<vec4<u32>>(high_of(eight));
  } else {
    keys[at / 8u] = pack_eight(CACHE_FORMAT, eight);
  }
}

fn store_value(at: u32, eight: Eight) {
  if (CACHE_FORMAT == FLOAT32) {
    values[at / 4u] = bitcast<vec4<u32>>(low_of(eight));
    values[at / 4u + 1u] = bitcast<vec4<u32>>(high_of(eight));
  } else {
    values[at / 8u] = pack_eight(CACHE_FORMAT, eight);
  }
}
