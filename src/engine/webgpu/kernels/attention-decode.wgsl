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
// Threads that share a token's value, LANES times; more lanes than tokens would have nothing to do.
const LANES: u32 = min(THREADS / CHUNKS, TILE);
const PER_LANE: u32 = (TILE + LANES - 1u) / LANES;
const PER_PART: u32 = (CHUNKS + PARTS - 1u) / PARTS;
// Query heads whose lanes are joined at once, as far as workgroup memory goes; two tiles of scores save a barrier a tile.
const AT_ONCE: u32 = max(1u, min(GROUP, 8u / GROUP));
const BATCHES: u32 = (GROUP + AT_ONCE - 1u) / AT_ONCE;
const SLOTS: u32 = select(1u, 2u, GROUP <= 4u);

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

// Queries of the group and, with PROLOGUE, the newest key, before QK-norm's 1/rms: each eight elements as four even ones,
// then four odd ones.
var<workgroup> staged: array<f32, (GROUP + u32(PROLOGUE)) * HEAD_DIM>;
var<workgroup> scores: array<f32, SLOTS * GROUP * TILE * PARTS>;
var<workgroup> lane_output: array<vec4<f32>, AT_ONCE * 2u * LANES * CHUNKS>;
var<workgroup> lane_top: array<f32, GROUP * LANES>;
var<workgroup> lane_sum: array<f32, GROUP * LANES>;
// The prologue works on pairs (j, j + HEAD_DIM/2) of the group's queries and of the key.
const HALF: u32 = HEAD_DIM / 2u;
const PAIRS: u32 = (GROUP + 1u) * HALF;
const PAIRS_EACH: u32 = (PAIRS + THREADS - 1u) / THREADS;
var<workgroup> pair_squares: array<f32, select(1u, PAIRS, PROLOGUE)>;
var<workgroup> newest_value: array<f32, select(1u, HEAD_DIM, PROLOGUE)>;
// Eight parts of each head's sum of squares.
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

// Where element `i` of a head lies in `staged` and `newest_value`.
fn spread(i: u32) -> u32 {
  return i / 8u * 8u + i % 2u * 4u + i % 8u / 2u;
}

fn staged_eight(head: u32, chunk: u32) -> Eight {
  let at = head * HEAD_DIM + chunk * 8u;
  return Eight(
    vec4(staged[at], staged[at + 1u], staged[at + 2u], staged[at + 3u]),
    vec4(staged[at + 4u], staged[at + 5u], staged[at + 6u], staged[at + 7u]),
  );
}

// 1/rms of a head; both RoPE and the product with keys are linear, so it is applied last.
fn head_scale(head: u32) -> f32 {
  if (!QK_NORM) {
    return 1f;
  }
  var sum = 0f;
  for (var i = 0u; i < 8u; i++) { // unroll
    sum += squares[head * 8u + i];
  }
  return inverseSqrt(sum / f32(HEAD_DIM) + EPSILON);
}

fn normed_eight(head: u32, chunk: u32) -> Eight {
  let eight = staged_eight(head, chunk);
  let scale = head_scale(head);
  return Eight(eight.even * scale, eight.odd * scale);
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
    vec4(newest_value[at], newest_value[at + 1u], newest_value[at + 2u], newest_value[at + 3u]),
    vec4(newest_value[at + 4u], newest_value[at + 5u], newest_value[at + 6u], newest_value[at + 7u]),
  );
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
  let lane = thread / CHUNKS;
  let chunk = thread % CHUNKS;
  let token = thread / PARTS;
  let part = thread % PARTS;
  var start = split * header.splitTokens;
  // Loads that wait for nothing go first, so that a chain of three remains: page, key, score. What a page table says
  // beyond a sequence's end is never used.
  var first_page = 0u;
  if (sequence > 0u) {
    first_page = u32(batch[header.kvIndptrAt + sequence]);
  }
  let length = u32(batch[header.kvLengthAt + sequence]);
  var x: array<vec2<f32>, PAIRS_EACH>;
  var gain: array<vec2<f32>, PAIRS_EACH>;
  let raw = row * addressing.queryRowStride;
  if (PROLOGUE) {
    for (var e = 0u; e < PAIRS_EACH; e++) { // unroll
      let p = min(thread + e * THREADS, PAIRS - 1u);
      let head = p / HALF;
      let j = p % HALF;
      let column = select(kv_head * GROUP + head, KEY_COLUMN / HEAD_DIM + kv_head, head == GROUP) * HEAD_DIM;
      x[e] = vec2(bitcast<f32>(query[raw + column + j]), bitcast<f32>(query[raw + column + j + HALF]));
      gain[e] = vec2(1f);
      if (QK_NORM) {
        let from_gain = select(0u, HEAD_DIM, head == GROUP) + j;
        gain[e] = vec2(gains[from_gain], gains[from_gain + HALF]);
      }
    }
  }
  let end = min(start + header.splitTokens, length);
  if (addressing.windowLeft >= 0) {
    start = max(start, length - min(length, u32(addressing.windowLeft) + 1u));
  }
  let state = (row * heads + kv_head * GROUP) * header.splitCount + split;
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
    let position = length - 1u;
    if (thread < HEAD_DIM) {
      newest_value[spread(thread)] = bitcast<f32>(query[raw + VALUE_COLUMN + kv_head * HEAD_DIM + thread]);
    }
    for (var e = 0u; e < PAIRS_EACH; e++) { // unroll
      let p = thread + e * THREADS;
      if (p < PAIRS) {
        let head = p / HALF;
        let j = p % HALF;
        pair_squares[p] = dot(x[e], x[e]);
        let y = x[e] * gain[e];
        let turn = angles[position * HALF + j];
        staged[head * HEAD_DIM + spread(j)] = y.x * turn.x - y.y * turn.y;
        staged[head * HEAD_DIM + spread(j + HALF)] = y.y * turn.x + y.x * turn.y;
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
    }
  } else {
    for (var i = thread; i < GROUP * HEAD_DIM; i += THREADS) {
      let head = kv_head * GROUP + i / HEAD_DIM;
      let at = addressing.queryOffset + row * addressing.queryRowStride + head * addressing.queryHeadStride;
      staged[i / HEAD_DIM * HEAD_DIM + spread(i % HEAD_DIM)] = query_element(at + i % HEAD_DIM);
    }
  }
  workgroupBarrier();

  if (PROLOGUE) {
    if (CAPTURE_AT != 0u && end == length) {
      for (var i = thread; i < GROUP * CHUNKS; i += THREADS) {
        let eight = normed_eight(i / CHUNKS, i % CHUNKS);
        let to = CAPTURE_AT / 4u + ((row * (heads + workgroups.y) + kv_head * GROUP) * CHUNKS + i) * 2u;
        output[to] = low_of(eight);
        output[to + 1u] = high_of(eight);
      }
    }
    // The newest key: its owner stores it.
    if (end == length && thread < CHUNKS) {
      let at = cache_row(first_page, length - 1u, kv_head);
      let newest = normed_eight(GROUP, thread);
      store_key(at.key + thread * 8u, newest);
      if (CAPTURE_AT != 0u) {
        let to = CAPTURE_AT / 4u + ((row * (heads + workgroups.y) + heads + kv_head) * CHUNKS + thread) * 2u;
        output[to] = low_of(newest);
        output[to + 1u] = high_of(newest);
      }
      store_value(at.value + thread * 8u, newest_value_eight(thread));
    }
  }

  // Every lane keeps its own greatest score, and the lanes are joined at the end: a maximum over the tile costs barriers.
  var scale: array<f32, GROUP>;
  var greatest: array<f32, GROUP>;
  var sum: array<f32, GROUP>;
  // The last batch may be longer than what is left of the group.
  var even: array<vec4<f32>, BATCHES * AT_ONCE>;
  var odd: array<vec4<f32>, BATCHES * AT_ONCE>;
  for (var g = 0u; g < GROUP; g++) { // unroll
    greatest[g] = NOTHING;
    scale[g] = 1f;
    if (PROLOGUE) {
      scale[g] = head_scale(g);
    }
  }
  var slot = 0u;
  for (var tile = start; tile < end; tile += TILE) {
    // Without the zeros spelled out, Dawn clears it once and not in every turn of the loop.
    var product = array<f32, GROUP>();
    for (var i = 0u; i < PER_PART; i++) { // unroll
      let c = part + i * PARTS;
      if (tile + token < end && c < CHUNKS) {
        var k = key[i];
        if (PROLOGUE && tile + token == length - 1u) {
          k = as_stored(normed_eight(GROUP, c));
        }
        for (var g = 0u; g < GROUP; g++) { // unroll
          let q = staged_eight(g, c);
          product[g] += dot(k.even, q.even) + dot(k.odd, q.odd);
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
    if (tile + TILE + token < end) {
      let at = cache_row(first_page, tile + TILE + token, kv_head).key;
      for (var i = 0u; i < PER_PART; i++) { // unroll
        if (part + i * PARTS < CHUNKS) {
          key[i] = key_eight(at + (part + i * PARTS) * 8u);
        }
      }
    }
    for (var g = 0u; g < GROUP; g++) { // unroll
      scores[((slot * GROUP + g) * TILE + token) * PARTS + part] = product[g];
    }
    workgroupBarrier();
    for (var g = 0u; g < GROUP; g++) { // unroll
      var score: array<f32, PER_LANE>;
      var top = greatest[g];
      for (var i = 0u; i < PER_LANE; i++) { // unroll
        let t = lane + i * LANES;
        score[i] = NOTHING;
        if (lane < LANES && t < TILE && tile + t < end) {
          var total = 0f;
          for (var p = 0u; p < PARTS; p++) { // unroll
            total += scores[((slot * GROUP + g) * TILE + t) * PARTS + p];
          }
          score[i] = scaled_score(total * scale[g]);
        }
        top = max(top, score[i]);
      }
      let shrink = exp2(greatest[g] - top);
      greatest[g] = top;
      sum[g] *= shrink;
      even[g] *= shrink;
      odd[g] *= shrink;
      for (var i = 0u; i < PER_LANE; i++) { // unroll
        if (!is_nothing(score[i])) {
          let w = exp2(score[i] - top);
          sum[g] += w;
          even[g] += w * value[i].even;
          odd[g] += w * value[i].odd;
        }
      }
    }
    for (var i = 0u; i < PER_LANE; i++) { // unroll
      if (lane < LANES && lane + i * LANES < TILE && tile + TILE + lane + i * LANES < end) {
        value[i] = value_eight(cache_row(first_page, tile + TILE + lane + i * LANES, kv_head).value + chunk * 8u);
      }
    }
    if (SLOTS == 1u) {
      workgroupBarrier();
    } else {
      slot = 1u - slot;
    }
  }

  for (var g = 0u; g < GROUP; g++) { // unroll
    if (chunk == 0u && lane < LANES) {
      lane_top[g * LANES + lane] = greatest[g];
      lane_sum[g * LANES + lane] = sum[g];
    }
  }
  for (var b = 0u; b < BATCHES; b++) { // unroll
    if (b > 0u) {
      workgroupBarrier();
    }
    for (var a = 0u; a < AT_ONCE; a++) { // unroll
      const g = b * AT_ONCE + a;
      if (lane < LANES) {
        lane_output[(2u * a * LANES + lane) * CHUNKS + chunk] = low_of(Eight(even[g], odd[g]));
        lane_output[((2u * a + 1u) * LANES + lane) * CHUNKS + chunk] = high_of(Eight(even[g], odd[g]));
      }
    }
    workgroupBarrier();
    for (var i = thread; i < AT_ONCE * 2u * CHUNKS; i += THREADS) {
      let half = i / CHUNKS;
      let g = b * AT_ONCE + half / 2u;
      if (g >= GROUP) {
        continue;
      }
      var top = NOTHING;
      for (var l = 0u; l < LANES; l++) { // unroll
        top = max(top, lane_top[g * LANES + l]);
      }
      var total = 0f;
      var joined = vec4(0f);
      for (var l = 0u; l < LANES; l++) { // unroll
        let w = exp2(lane_top[g * LANES + l] - top);
        total += w * lane_sum[g * LANES + l];
        joined += w * lane_output[(half * LANES + l) * CHUNKS + i % CHUNKS];
      }
      let to = state + g * header.splitCount;
      output[(to * CHUNKS + i % CHUNKS) * 2u + half % 2u] = joined / total;
      if (i % (2u * CHUNKS) == 0u) {
        lse[to] = top + log2(total);
      }
    }
  }
}
