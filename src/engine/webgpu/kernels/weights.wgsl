// Eight neighbouring elements of a row of `weights`, K long, in any of the stored types.

override WEIGHT_FORMAT: u32 = 0u;

const CHUNKS: u32 = K / 8u;

fn weights_at(row: u32, chunk: u32) -> Eight {
  let at = row * CHUNKS + chunk;
  if (WEIGHT_FORMAT == FLOAT32) {
    return eight_of_float32(bitcast<vec4<f32>>(weights[2u * at]), bitcast<vec4<f32>>(weights[2u * at + 1u]));
  }
  return eight_of(WEIGHT_FORMAT, weights[at]);
}
