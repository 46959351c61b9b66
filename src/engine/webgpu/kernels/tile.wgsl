// What the tiled products share: which weight rows a tile multiplies with, and how a finished sum is stored. A tile is
// TILE_COLUMNS wide; with GATED the weights are N gate rows, then N up rows, and the two alternate in the tile, so that
// whoever holds a gate holds its up too.

override FIRST_ROW: u32 = 0u;
override BIAS: bool = false;
override RESIDUAL: bool = false;
// SiLU(gate) · up.
override GATED: bool = false;
override OUTPUT_STRIDE: u32;
override OUTPUT_OFFSET: u32 = 0u;

// Column j of the tile as a row of the weights.
fn weight_row(tile: u32, j: u32) -> u32 {
  if (GATED) {
    return min(tile * (TILE_COLUMNS / 2u) + j / 2u, N - 1u) + (j % 2u) * N;
  }
  return FIRST_ROW + min(tile * TILE_COLUMNS + j, N - 1u);
}

fn store_product(row: u32, n: u32, product: f32) {
  var value = product;
  if (BIAS) {
    value += bias[FIRST_ROW + n];
  }
  if (RESIDUAL) {
    value += residual[row * N + n];
  }
  output[row * OUTPUT_STRIDE + OUTPUT_OFFSET + n] = value;
}

fn store_gated(row: u32, n: u32, gate_product: f32, up_product: f32) {
  var gate = gate_product;
  var up = up_product;
  if (BIAS) {
    gate += bias[n];
    up += bias[N + n];
  }
  output[row * OUTPUT_STRIDE + OUTPUT_OFFSET + n] = silu(gate) * up;
}
