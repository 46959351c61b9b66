// Attention of ragged query rows over paged or ragged keys, in tiles of 64 query rows × 32 keys held in workgroup memory
// and registers (each thread: 4 rows). One workgroup per (tile of the work list, query head).
// Heads come first in the grid, so that neighbours, which run together, are of all lengths.
// Causal masks are bottom-right aligned: query i of a sequence sees key j when j - i <= kv_len - qo_len.

override GROUP: u32;
override HEAD_DIM: u32;
override QUERY_FORMAT: u32 = 2u;
// Threads down (4 query rows each) and across (4 keys each, and every eighth vector of channels).
const ACROSS: u32 = 8u;
const THREADS: u32 = 16u * ACROSS;
const ROWS: u32 = 64u;
const TILE: u32 = 32u;
const QUADS: u32 = HEAD_DIM / 4u;
const QUADS_EACH: u32 = (QUADS + ACROSS - 1u) / ACROSS;
const CHUNKS: u32 = HEAD_DIM / 8u;
// A slice of 32 channels, and one vector of padding against bank conflicts.
const SLICE: u32 = 8u;
const PITCH: u32 = SLICE + 1u;
const STAGE: u32 = 1024u;
const VALUES_STAGED: u32 = min(TILE, STAGE / QUADS);

@group(0) @binding(0) var<uniform> header: BatchHeader;
@group(0) @binding(1) var<uniform> addressing: AttentionParameters;
@group(0) @binding(2) var<storage, read> query: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> batch: array<i32>;
@group(0) @binding(4) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> values: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> output: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> lse: array<u32>;

var<workgroup> stage: array<vec4<f32>, STAGE>;
var<workgroup> weight: array<vec4<f32>, TILE * 16u>;
var<workgroup> across: array<vec4<f32>, 16u * ACROSS>;

fn query_quad(at: u32) -> vec4<f32> {
  if (QUERY_FORMAT == FLOAT32) {
    return bitcast<vec4<f32>>(query[at / 4u]);
  }
  let raw = query[at / 8u];
  let pair = select(raw.xy, raw.zw, at % 8u == 4u);
  if (QUERY_FORMAT == FLOAT16) {
    return vec4(unpack2x16float(pair.x), unpack2x16float(pair.y));
  }
  return bitcast<vec4<f32>>(vec4(pair.x << 16u, pair.x & 0xffff0000u, pair.y << 16u, pair.y & 0xffff0000u));
}

// Four rows' weights times one vector of channels: column r is row r's share.
fn shares(v: vec4<f32>, w: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(v * w.x, v * w.y, v * w.z, v * w.w);
}

fn shrunk(m: mat4x4<f32>, by: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(m[0] * by.x, m[1] * by.y, m[2] * by.z, m[3] * by.w);
}

// Scores of one key against this thread's four rows, masked.
fn masked(products: vec4<f32>, key: i32, end: u32, position: vec4<i32>) -> vec4<f32> {
  var visible = vec4<bool>(u32(key) < end);
  if (is_causal()) {
    visible = visible & (vec4(key) <= position);
  }
  if (addressing.windowLeft >= 0) {
    visible = visible & (vec4(key + addressing.windowLeft) >= position);
  }
  let scores = vec4(scaled_score(products.x), scaled_score(products.y), scaled_score(products.z), scaled_score(products.w));
  return select(vec4(NOTHING), scores, visible);
}

fn is_causal() -> bool {
  return addressing.causal != 0u;
}

// A row that sees nothing yet has top = NOTHING, where the difference says nothing: its weights are 0.
fn weights_of(scores: vec4<f32>, top: vec4<f32>) -> vec4<f32> {
  return select(exp2(scores - top), vec4(0f), scores < vec4(-1e37f));
}

fn store_rows(m: mat4x4<f32>, quad: u32, scale: vec4<f32>, first: u32, queries: u32, row0: u32, heads: u32, head: u32) {
  if (quad >= QUADS) {
    return;
  }
  let to = ((row0 + first) * heads + head) * QUADS + quad;
  let step = heads * QUADS;
  if (first < queries) {
    output[to] = m[0] * scale.x;
  }
  if (first + 1u < queries) {
    output[to + step] = m[1] * scale.y;
  }
  if (first + 2u < queries) {
    output[to + 2u * step] = m[2] * scale.z;
  }
  if (first + 3u < queries) {
    output[to + 3u * step] = m[3] * scale.w;
  }
}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
) {
  let head = workgroup.x;
  let kv_head = head / GROUP;
  let sequence = u32(batch[header.tilesAt + 2u * workgroup.y]);
  let first = u32(batch[header.tilesAt + 2u * workgroup.y + 1u]);
  let row0 = u32(batch[header.qoIndptrAt + sequence]);
  let queries = u32(batch[header.qoIndptrAt + sequence + 1u]) - row0;
  let length = u32(batch[header.kvLengthAt + sequence]);
  let first_page = u32(batch[header.kvIndptrAt + sequence]);
  // Position of query row 0; negative when there are more queries than keys.
  let shift = i32(length) - i32(queries);
  let ty = thread / ACROSS;
  let tx = thread % ACROSS;
  // Whether any of this thread's rows is a query's: in the last tile of a sequence, and in a short one, few are.
  let live = first + ty * 4u < queries;
  let position = vec4(shift + i32(first + ty * 4u)) + vec4(0, 1, 2, 3);

  var start = 0u;
  var end = length;
  if (is_causal()) {
    end = min(length, u32(max(0, shift + i32(min(first + ROWS, queries)))));
  }
  if (addressing.windowLeft >= 0) {
    start = u32(max(0, shift + i32(first) - addressing.windowLeft));
  }

  var greatest = vec4(NOTHING);
  var sum = vec4(0f);
  // One matrix per vector of channels.
  var attended: array<mat4x4<f32>, QUADS_EACH>;
  for (var tile = start; tile < end; tile += TILE) {
    var s0 = vec4(0f);
    var s1 = vec4(0f);
    var s2 = vec4(0f);
    var s3 = vec4(0f);
    for (var slice = 0u; slice < QUADS; slice += SLICE) {
      workgroupBarrier();
      for (var i = thread; i < ROWS * SLICE; i += THREADS) {
        let r = min(first + i / SLICE, queries - 1u);
        let quad = slice + i % SLICE;
        var q = vec4(0f);
        if (quad < QUADS) {
          q = query_quad(addressing.queryOffset + (row0 + r) * addressing.queryRowStride + head * addressing.queryHeadStride + quad * 4u);
        }
        stage[i / SLICE * PITCH + i % SLICE] = q;
      }
      for (var i = thread; i < TILE * SLICE / 2u; i += THREADS) {
        let token = i / (SLICE / 2u);
        let chunk = slice / 2u + i % (SLICE / 2u);
        var key = Eight(vec4(0f), vec4(0f));
        if (tile + token < end && chunk < CHUNKS) {
          key = key_eight(cache_row(first_page, tile + token, kv_head).key + chunk * 8u);
        }
        let to = (ROWS + token) * PITCH + i % (SLICE / 2u) * 2u;
        stage[to] = low_of(key);
        stage[to + 1u] = high_of(key);
      }
      workgroupBarrier();
      if (live) {
        for (var c = 0u; c < SLICE; c++) { // unroll
          let q0 = stage[(ty * 4u) * PITCH + c];
          let q1 = stage[(ty * 4u + 1u) * PITCH + c];
          let q2 = stage[(ty * 4u + 2u) * PITCH + c];
          let q3 = stage[(ty * 4u + 3u) * PITCH + c];
          let k0 = stage[(ROWS + tx) * PITCH + c];
          let k1 = stage[(ROWS + tx + ACROSS) * PITCH + c];
          let k2 = stage[(ROWS + tx + 2u * ACROSS) * PITCH + c];
          let k3 = stage[(ROWS + tx + 3u * ACROSS) * PITCH + c];
          s0 += vec4(dot(q0, k0), dot(q1, k0), dot(q2, k0), dot(q3, k0));
          s1 += vec4(dot(q0, k1), dot(q1, k1), dot(q2, k1), dot(q3, k1));
          s2 += vec4(dot(q0, k2), dot(q1, k2), dot(q2, k2), dot(q3, k2));
          s3 += vec4(dot(q0, k3), dot(q1, k3), dot(q2, k3), dot(q3, k3));
        }
      }
    }
    let key = i32(tile + tx);
    s0 = masked(s0, key, end, position);
    s1 = masked(s1, key + i32(ACROSS), end, position);
    s2 = masked(s2, key + 2 * i32(ACROSS), end, position);
    s3 = masked(s3, key + 3 * i32(ACROSS), end, position);
    var top = max(max(s0, s1), max(s2, s3));
    across[thread] = top;
    workgroupBarrier();
    for (var i = 0u; i < ACROSS; i++) { // unroll
      top = max(top, across[ty * ACROSS + i]);
    }
    top = max(top, greatest);
    let shrink = exp2(greatest - top);
    greatest = top;
    s0 = weights_of(s0, top);
    s1 = weights_of(s1, top);
    s2 = weights_of(s2, top);
    s3 = weights_of(s3, top);
    sum = sum * shrink + ((s0 + s1) + (s2 + s3));
    weight[tx * 16u + ty] = s0;
    weight[(tx + ACROSS) * 16u + ty] = s1;
    weight[(tx + 2u * ACROSS) * 16u + ty] = s2;
    weight[(tx + 3u * ACROSS) * 16u + ty] = s3;
    for (var i = 0u; i < QUADS_EACH; i++) { // unroll
      attended[i] = shrunk(attended[i], shrink);
    }
    for (var token0 = 0u; token0 < TILE; token0 += VALUES_STAGED) {
      workgroupBarrier();
      for (var i = thread; i < VALUES_STAGED * CHUNKS; i += THREADS) {
        let token = tile + token0 + i / CHUNKS;
        var value = Eight(vec4(0f), vec4(0f));
        if (token < end && token0 + i / CHUNKS < TILE) {
          value = value_eight(cache_row(first_page, token, kv_head).value + i % CHUNKS * 8u);
        }
        stage[2u * i] = low_of(value);
        stage[2u * i + 1u] = high_of(value);
      }
      workgroupBarrier();
      if (live) {
        for (var t = 0u; t < min(VALUES_STAGED, TILE - token0); t++) {
          let w = weight[(token0 + t) * 16u + ty];
          let at = t * QUADS + tx;
          for (var i = 0u; i < QUADS_EACH; i++) { // unroll
            attended[i] += shares(stage[min(at + i * ACROSS, STAGE - 1u)], w);
          }
        }
      }
    }
  }

  workgroupBarrier();
  across[thread] = sum;
  workgroupBarrier();
  var total = vec4(0f);
  for (var i = 0u; i < ACROSS; i++) { // unroll
    total += across[ty * ACROSS + i];
  }
  let empty = total <= vec4(0f);
  let scale = select(vec4(1f) / total, vec4(0f), empty);
  let row = first + ty * 4u;
  for (var i = 0u; i < QUADS_EACH; i++) { // unroll
    store_rows(attended[i], tx + i * ACROSS, scale, row, queries, row0, workgroups.x, head);
  }
  if (tx == 0u) {
    let logs = bitcast<vec4<u32>>(greatest + log2(max(total, vec4(1e-38f))));
    // The bits of -infinity, which no expression may make.
    let bits = select(logs, vec4(0xff800000u), empty);
    for (var r = 0u; r < 4u; r++) {
      if (row + r < queries) {
        lse[(row0 + row + r) * workgroups.x + head] = bits[r];
      }
    }
  }
}
