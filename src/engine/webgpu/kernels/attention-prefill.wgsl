// Attention of ragged query rows over paged or ragged keys, in tiles of 64 query rows × 32 keys held in workgroup memory
// and registers (each thread: 4 rows). One workgroup per (tile of the work list, query head).
// Causal masks are bottom-right aligned: query i of a sequence sees key j when j - i <= kv_len - qo_len.

override GROUP: u32;
override HEAD_DIM: u32;
override QUERY_FORMAT: u32 = 2u;
// Threads across keys or channels; a workgroup has 16 times as many.
override ACROSS: u32 = 8u;

const THREADS: u32 = 16u * ACROSS;
const ROWS: u32 = 64u;
const TILE: u32 = 32u;
const KEYS_EACH: u32 = TILE / ACROSS;
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
@group(0) @binding(2) var<storage, read> query: array<u32>;
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
    return vec4(bitcast<f32>(query[at]), bitcast<f32>(query[at + 1u]), bitcast<f32>(query[at + 2u]), bitcast<f32>(query[at + 3u]));
  }
  let a = query[at / 2u];
  let b = query[at / 2u + 1u];
  if (QUERY_FORMAT == FLOAT16) {
    return vec4(unpack2x16float(a), unpack2x16float(b));
  }
  return bitcast<vec4<f32>>(vec4(a << 16u, a & 0xffff0000u, b << 16u, b & 0xffff0000u));
}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
) {
  let head = workgroup.y;
  let kv_head = head / GROUP;
  let sequence = u32(batch[header.tilesAt + 2u * workgroup.x]);
  let first = u32(batch[header.tilesAt + 2u * workgroup.x + 1u]);
  let row0 = u32(batch[header.qoIndptrAt + sequence]);
  let queries = u32(batch[header.qoIndptrAt + sequence + 1u]) - row0;
  let length = u32(batch[header.kvLengthAt + sequence]);
  let first_page = u32(batch[header.kvIndptrAt + sequence]);
  // Position of query row 0; negative when there are more queries than keys.
  let shift = i32(length) - i32(queries);
  let ty = thread / ACROSS;
  let tx = thread % ACROSS;

  var start = 0u;
  var end = length;
  if (addressing.causal != 0u) {
    end = min(length, u32(max(0, shift + i32(min(first + ROWS, queries)))));
  }
  if (addressing.windowLeft >= 0) {
    start = u32(max(0, shift + i32(first) - addressing.windowLeft));
  }

  var greatest = vec4(NOTHING);
  var sum = vec4(0f);
  var result: array<array<vec4<f32>, QUADS_EACH>, 4>;
  for (var tile = start; tile < end; tile += TILE) {
    var score: array<vec4<f32>, KEYS_EACH>;
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
      for (var c = 0u; c < SLICE; c++) {
        let q0 = stage[(ty * 4u) * PITCH + c];
        let q1 = stage[(ty * 4u + 1u) * PITCH + c];
        let q2 = stage[(ty * 4u + 2u) * PITCH + c];
        let q3 = stage[(ty * 4u + 3u) * PITCH + c];
        for (var j = 0u; j < KEYS_EACH; j++) {
          let k = stage[(ROWS + tx + j * ACROSS) * PITCH + c];
          score[j] += vec4(dot(q0, k), dot(q1, k), dot(q2, k), dot(q3, k));
        }
      }
    }
    var top = vec4(NOTHING);
    for (var j = 0u; j < KEYS_EACH; j++) {
      let key = i32(tile + tx + j * ACROSS);
      for (var r = 0u; r < 4u; r++) {
        let position = shift + i32(first + ty * 4u + r);
        var visible = u32(key) < end;
        visible = visible && (addressing.causal == 0u || key <= position);
        visible = visible && (addressing.windowLeft < 0 || key + addressing.windowLeft >= position);
        score[j][r] = select(NOTHING, scaled_score(score[j][r]), visible);
      }
      top = max(top, score[j]);
    }
    across[thread] = top;
    workgroupBarrier();
    for (var i = 0u; i < ACROSS; i++) {
      top = max(top, across[ty * ACROSS + i]);
    }
    top = max(top, greatest);
    let shrink = exp2(greatest - top);
    greatest = top;
    sum *= shrink;
    for (var j = 0u; j < KEYS_EACH; j++) {
      // A row that sees nothing yet has top = NOTHING, where the difference says nothing: its weights are 0.
      let w = select(exp2(score[j] - top), vec4(0f), score[j] < vec4(-1e37f));
      sum += w;
      weight[(tx + j * ACROSS) * 16u + ty] = w;
    }
    for (var r = 0u; r < 4u; r++) {
      for (var j = 0u; j < QUADS_EACH; j++) {
        result[r][j] *= shrink[r];
      }
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
      for (var t = 0u; t < min(VALUES_STAGED, TILE - token0); t++) {
        let w = weight[(token0 + t) * 16u + ty];
        for (var j = 0u; j < QUADS_EACH; j++) {
          let quad = tx + j * ACROSS;
          if (quad < QUADS) {
            let v = stage[t * QUADS + quad];
            for (var r = 0u; r < 4u; r++) {
              result[r][j] += w[r] * v;
            }
          }
        }
      }
    }
  }

  workgroupBarrier();
  across[thread] = sum;
  workgroupBarrier();
  var total = vec4(0f);
  for (var i = 0u; i < ACROSS; i++) {
    total += across[ty * ACROSS + i];
  }
  for (var r = 0u; r < 4u; r++) {
    let row = first + ty * 4u + r;
    if (row >= queries) {
      continue;
    }
    let empty = total[r] <= 0f;
    let scale = select(1f / total[r], 0f, empty);
    let to = (row0 + row) * workgroups.y + head;
    for (var j = 0u; j < QUADS_EACH; j++) {
      let quad = tx + j * ACROSS;
      if (quad < QUADS) {
        output[to * QUADS + quad] = result[r][j] * scale;
      }
    }
    if (tx == 0u) {
      // The bits of -infinity, which no expression may make.
      lse[to] = select(bitcast<u32>(greatest[r] + log2(max(total[r], 1e-38f))), 0xff800000u, empty);
    }
  }
}
