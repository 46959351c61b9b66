// Attention of one query row per sequence over a part (split) of its keys. A workgroup serves the GROUP query heads of
// one KV head: keys and values are read once per group. Results are normalised states (output, base-2 log-sum-exp)
// that attention-merge.wgsl or the output projection joins.
//
// PROLOGUE fuses what comes before: `query` is then the raw packed q|k|v row; QK-norm and RoPE are applied here, and the
// workgroup that owns the newest token appends its K and V to the cache before reading them back.

override GROUP: u32;
override HEAD_DIM: u32;
override QUERY_FORMAT: u32 = 2u;
override PROLOGUE: bool = false;
override QK_NORM: bool = false;
override EPSILON: f32 = 1e-6;
// With PROLOGUE: where k and v begin in a packed row.
override KEY_COLUMN: u32 = 0u;
override VALUE_COLUMN: u32 = 0u;
// With PROLOGUE: also leave rotated q and k, [rows, heads + kv heads, HEAD_DIM], from this element of `output` on.
override CAPTURE_AT: u32 = 0u;

const THREADS: u32 = 256u;
const TILE: u32 = 64u;
const PARTS: u32 = THREADS / TILE;
const CHUNKS: u32 = HEAD_DIM / 8u;
const LANES: u32 = THREADS / CHUNKS;
const PER_LANE: u32 = (TILE + LANES - 1u) / LANES;
const PER_PART: u32 = (CHUNKS + PARTS - 1u) / PARTS;

@group(0) @binding(0) var<uniform> header: BatchHeader;
@group(0) @binding(1) var<uniform> addressing: AttentionParameters;
@group(0) @binding(2) var<storage, read> query: array<u32>;
@group(0) @binding(3) var<storage, read> batch: array<i32>;
@group(0) @binding(4) var<storage, read_write> keys: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> values: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> output: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> lse: array<f32>;
// With PROLOGUE: QK-norm gains of q, then of k; and cos and sin, [position, ROTARY/2].
@group(0) @binding(8) var<storage, read> gains: array<f32>;
@group(0) @binding(9) var<storage, read> angles: array<vec2<f32>>;

var<workgroup> query_even: array<vec4<f32>, GROUP * CHUNKS>;
var<workgroup> query_odd: array<vec4<f32>, GROUP * CHUNKS>;
var<workgroup> scores: array<f32, GROUP * TILE * PARTS>;
var<workgroup> weight: array<f32, GROUP * TILE>;
var<workgroup> tops: array<f32, GROUP * 8u>;
var<workgroup> lane_even: array<vec4<f32>, THREADS>;
var<workgroup> lane_odd: array<vec4<f32>, THREADS>;
var<workgroup> lane_sum: array<f32, LANES>;
// The prologue works on pairs (j, j + HEAD_DIM/2) of the group's queries and of the key.
const HALF: u32 = HEAD_DIM / 2u;
const PAIRS: u32 = (GROUP + 1u) * HALF;
const PAIRS_EACH: u32 = (PAIRS + THREADS - 1u) / THREADS;
var<workgroup> staged: array<f32, select(1u, 2u * PAIRS, PROLOGUE)>;
var<workgroup> pair_squares: array<f32, select(1u, PAIRS, PROLOGUE)>;
var<workgroup> newest_value: array<f32, select(1u, HEAD_DIM, PROLOGUE)>;
var<workgroup> squares: array<f32, (GROUP + 1u) * 8u>;

fn query_element(at: u32) -> f32 {
  if (QUERY_FORMAT == FLOAT32) {
    return bitcast<f32>(query[at]);
  }
  let half = (query[at / 2u] >> (16u * (at % 2u))) & 0xffffu;
  if (QUERY_FORMAT == FLOAT16) {
    return unpack2x16float(half).x;
  }
  return bitcast<f32>(half << 16u);
}

fn staged_eight(head: u32, chunk: u32) -> Eight {
  let at = head * HEAD_DIM + chunk * 8u;
  return Eight(
    vec4(staged[at], staged[at + 2u], staged[at + 4u], staged[at + 6u]),
    vec4(staged[at + 1u], staged[at + 3u], staged[at + 5u], staged[at + 7u]),
  );
}

// What the cache will hold of a value: readers of the newest token must not see more digits than later readers will.
fn as_stored(eight: Eight) -> Eight {
  if (CACHE_FORMAT == FLOAT32) {
    return eight;
  }
  return eight_of(CACHE_FORMAT, pack_eight(CACHE_FORMAT, eight));
}

fn newest_value_eight(chunk: u32) -> Eight {
  let at = chunk * 8u;
  return Eight(
    vec4(newest_value[at], newest_value[at + 2u], newest_value[at + 4u], newest_value[at + 6u]),
    vec4(newest_value[at + 1u], newest_value[at + 3u], newest_value[at + 5u], newest_value[at + 7u]),
  );
}

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

@compute @workgroup_size(THREADS)
fn main(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
) {
  let split = workgroup.x;
  let kv_head = workgroup.y;
  let sequence = workgroup.z;
  let heads = workgroups.y * GROUP;
  // With PROLOGUE every sequence has one row, and nothing need wait for the index.
  var row = sequence;
  if (!PROLOGUE) {
    row = u32(batch[header.qoIndptrAt + sequence]);
    if (u32(batch[header.qoIndptrAt + sequence + 1u]) == row) {
      return;
    }
  }
  let length = u32(batch[header.kvLengthAt + sequence]);
  let first_page = u32(batch[header.kvIndptrAt + sequence]);
  let state = (row * heads + kv_head * GROUP) * header.splitCount + split;
  var start = split * header.splitTokens;
  let end = min(start + header.splitTokens, length);
  if (addressing.windowLeft >= 0) {
    start = max(start, length - min(length, u32(addressing.windowLeft) + 1u));
  }
  if (start >= end) {
    for (var i = thread; i < GROUP * CHUNKS * 2u; i += THREADS) {
      let to = state + i / (CHUNKS * 2u) * header.splitCount;
      output[to * CHUNKS * 2u + i % (CHUNKS * 2u)] = vec4(0f);
      if (i % (CHUNKS * 2u) == 0u) {
        lse[to] = NOTHING;
      }
    }
    return;
  }

  let lane = thread / CHUNKS;
  let chunk = thread % CHUNKS;
  let token = thread / PARTS;
  let part = thread % PARTS;
  // The first tile is asked for before anything else, and each next one before the present one is used: with short
  // contexts there is one tile, and its latency passes behind the prologue.
  var key: array<Eight, PER_PART>;
  var value: array<Eight, PER_LANE>;
  if (start + token < end) {
    let at = cache_row(first_page, start + token, kv_head).key;
    for (var i = 0u; i < PER_PART; i++) { // unroll
      if (part + i * PARTS < CHUNKS) {
        key[i] = key_eight(at + (part + i * PARTS) * 8u);
      }
    }
  }
  for (var i = 0u; i < PER_LANE; i++) { // unroll
    if (lane < LANES && lane + i * LANES < TILE && start + lane + i * LANES < end) {
      value[i] = value_eight(cache_row(first_page, start + lane + i * LANES, kv_head).value + chunk * 8u);
    }
  }

  if (PROLOGUE) {
    let raw = row * addressing.queryRowStride;
    let position = length - 1u;
    if (thread < HEAD_DIM) {
      newest_value[thread] = bitcast<f32>(query[raw + VALUE_COLUMN + kv_head * HEAD_DIM + thread]);
    }
    var x: array<vec2<f32>, PAIRS_EACH>;
    var gain: array<vec2<f32>, PAIRS_EACH>;
    var turn: array<vec2<f32>, PAIRS_EACH>;
    for (var e = 0u; e < PAIRS_EACH; e++) { // unroll
      let p = thread + e * THREADS;
      if (p < PAIRS) {
        let head = p / HALF;
        let j = p % HALF;
        let column = select(kv_head * GROUP + head, KEY_COLUMN / HEAD_DIM + kv_head, head == GROUP) * HEAD_DIM;
        x[e] = vec2(bitcast<f32>(query[raw + column + j]), bitcast<f32>(query[raw + column + j + HALF]));
        gain[e] = vec2(1f);
        if (QK_NORM) {
          let from_gain = select(0u, HEAD_DIM, head == GROUP) + j;
          gain[e] = vec2(gains[from_gain], gains[from_gain + HALF]);
          pair_squares[p] = dot(x[e], x[e]);
        }
        turn[e] = angles[position * HALF + j];
      }
    }
    if (QK_NORM) {
      workgroupBarrier();
      for (var i = thread; i < (GROUP + 1u) * 8u; i += THREADS) {
        var sum = 0f;
        for (var j = i % 8u; j < HALF; j += 8u) {
          sum += pair_squares[i / 8u * HALF + j];
        }
        squares[i] = sum;
      }
      workgroupBarrier();
    }
    for (var e = 0u; e < PAIRS_EACH; e++) { // unroll
      let p = thread + e * THREADS;
      if (p < PAIRS) {
        let head = p / HALF;
        var y = x[e];
        if (QK_NORM) {
          var sum = 0f;
          for (var i = 0u; i < 8u; i++) { // unroll
            sum += squares[head * 8u + i];
          }
          y = y * inverseSqrt(sum / f32(HEAD_DIM) + EPSILON) * gain[e];
        }
        staged[head * HEAD_DIM + p % HALF] = y.x * turn[e].x - y.y * turn[e].y;
        staged[head * HEAD_DIM + p % HALF + HALF] = y.y * turn[e].x + y.x * turn[e].y;
      }
    }
    workgroupBarrier();
    for (var i = thread; i < GROUP * CHUNKS; i += THREADS) {
      let eight = staged_eight(i / CHUNKS, i % CHUNKS);
      query_even[i] = eight.even;
      query_odd[i] = eight.odd;
      if (CAPTURE_AT != 0u && end == length) {
        let to = CAPTURE_AT / 4u + ((row * (heads + workgroups.y) + kv_head * GROUP) * CHUNKS + i) * 2u;
        output[to] = low_of(eight);
        output[to + 1u] = high_of(eight);
      }
    }
    // The newest key: its owner stores it.
    if (end == length && thread < CHUNKS) {
      let at = cache_row(first_page, length - 1u, kv_head);
      let newest = staged_eight(GROUP, thread);
      store_key(at.key + thread * 8u, newest);
      if (CAPTURE_AT != 0u) {
        let to = CAPTURE_AT / 4u + ((row * (heads + workgroups.y) + heads + kv_head) * CHUNKS + thread) * 2u;
        output[to] = low_of(newest);
        output[to + 1u] = high_of(newest);
      }
      store_value(at.value + thread * 8u, newest_value_eight(thread));
    }
  } else {
    for (var i = thread; i < GROUP * CHUNKS; i += THREADS) {
      let head = kv_head * GROUP + i / CHUNKS;
      let at = addressing.queryOffset + row * addressing.queryRowStride + head * addressing.queryHeadStride + i % CHUNKS * 8u;
      var v: array<f32, 8>;
      for (var c = 0u; c < 8u; c++) {
        v[c] = query_element(at + c);
      }
      query_even[i] = vec4(v[0], v[2], v[4], v[6]);
      query_odd[i] = vec4(v[1], v[3], v[5], v[7]);
    }
  }
  workgroupBarrier();

  var greatest: array<f32, GROUP>;
  var sum: array<f32, GROUP>;
  var even: array<vec4<f32>, GROUP>;
  var odd: array<vec4<f32>, GROUP>;
  for (var g = 0u; g < GROUP; g++) { // unroll
    greatest[g] = NOTHING;
  }
  for (var tile = start; tile < end; tile += TILE) {
    var product: array<f32, GROUP>;
    for (var i = 0u; i < PER_PART; i++) { // unroll
      let c = part + i * PARTS;
      if (tile + token < end && c < CHUNKS) {
        var k = key[i];
        if (PROLOGUE && tile + token == length - 1u) {
          k = as_stored(staged_eight(GROUP, c));
        }
        for (var g = 0u; g < GROUP; g++) { // unroll
          product[g] += dot(k.even, query_even[g * CHUNKS + c]) + dot(k.odd, query_odd[g * CHUNKS + c]);
        }
      }
    }
    if (PROLOGUE) {
      for (var i = 0u; i < PER_LANE; i++) { // unroll
        if (tile + lane + i * LANES == length - 1u && lane < LANES) {
          value[i] = as_stored(newest_value_eight(chunk));
        }
      }
    }
    if (tile + TILE < end) {
      if (tile + TILE + token < end) {
        let at = cache_row(first_page, tile + TILE + token, kv_head).key;
        for (var i = 0u; i < PER_PART; i++) { // unroll
          if (part + i * PARTS < CHUNKS) {
            key[i] = key_eight(at + (part + i * PARTS) * 8u);
          }
        }
      }
    }
    for (var g = 0u; g < GROUP; g++) { // unroll
      scores[(g * TILE + token) * PARTS + part] = product[g];
    }
    workgroupBarrier();
    for (var i = thread; i < GROUP * TILE; i += THREADS) {
      var total = 0f;
      for (var p = 0u; p < PARTS; p++) { // unroll
        total += scores[i * PARTS + p];
      }
      weight[i] = select(NOTHING, scaled_score(total), tile + i % TILE < end);
    }
    workgroupBarrier();
    for (var i = thread; i < GROUP * 8u; i += THREADS) {
      var top = NOTHING;
      for (var t = i % 8u; t < TILE; t += 8u) {
        top = max(top, weight[i / 8u * TILE + t]);
      }
      tops[i] = top;
    }
    workgroupBarrier();
    for (var g = 0u; g < GROUP; g++) { // unroll
      var top = greatest[g];
      for (var i = 0u; i < 8u; i++) { // unroll
        top = max(top, tops[g * 8u + i]);
      }
      let shrink = exp2(greatest[g] - top);
      greatest[g] = top;
      sum[g] *= shrink;
      even[g] *= shrink;
      odd[g] *= shrink;
      for (var i = 0u; i < PER_LANE; i++) { // unroll
        let t = lane + i * LANES;
        if (lane < LANES && t < TILE && tile + t < end) {
          let w = exp2(weight[g * TILE + t] - top);
          sum[g] += w;
          even[g] += w * value[i].even;
          odd[g] += w * value[i].odd;
        }
      }
    }
    if (tile + TILE < end) {
      for (var i = 0u; i < PER_LANE; i++) { // unroll
        if (lane < LANES && lane + i * LANES < TILE && tile + TILE + lane + i * LANES < end) {
          value[i] = value_eight(cache_row(first_page, tile + TILE + lane + i * LANES, kv_head).value + chunk * 8u);
        }
      }
    }
  }

  for (var g = 0u; g < GROUP; g++) { // unroll
    workgroupBarrier();
    lane_even[thread] = even[g];
    lane_odd[thread] = odd[g];
    if (chunk == 0u && lane < LANES) {
      lane_sum[lane] = sum[g];
    }
    workgroupBarrier();
    if (thread < CHUNKS) {
      var total = 0f;
      var eight = Eight(vec4(0f), vec4(0f));
      for (var i = 0u; i < LANES; i++) { // unroll
        total += lane_sum[i];
        eight.even += lane_even[i * CHUNKS + thread];
        eight.odd += lane_odd[i * CHUNKS + thread];
      }
      eight = Eight(eight.even / total, eight.odd / total);
      let to = state + g * header.splitCount;
      output[(to * CHUNKS + thread) * 2u] = low_of(eight);
      output[(to * CHUNKS + thread) * 2u + 1u] = high_of(eight);
      if (thread == 0u) {
        lse[to] = greatest[g] + log2(total);
      }
    }
  }
}
