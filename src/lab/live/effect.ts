import { executionOrder } from "../../engine/program/dataflow.js";
import type { Graph } from "../../spec/graph.js";
import { decoderGraph } from "../../spec/models/decoder.js";
import { firstBeyondRounding } from "./first-change.js";
import type { LiveRun } from "./live-run.js";

/** Without the change, and with it. */
export interface Beside<T> {
  readonly without: T;
  readonly with: T;
}

/** How many elements differ in their bits, of those that both runs have. */
export interface Share {
  readonly changed: number;
  readonly of: number;
}

export interface ValueEffect extends Share {
  readonly value: string;
  /** Largest finite |x|. */
  readonly largest: Beside<number>;
  /** NaN and infinities. */
  readonly nonFinite: Beside<number>;
}

/** The residual stream that a layer leaves, and how much of all that the layer computes has changed. */
export interface LayerEffect extends ValueEffect {
  readonly layer: number;
  readonly elements: Share;
}

/** What a change does to the values of the prompt's step and to the text. */
export interface Effect {
  readonly values: Share;
  readonly elements: Share;
  readonly nonFinite: Beside<number>;
  /** The first value that changes beyond rounding; null where none does, be it that none changes or by rounding alone. */
  readonly first: ValueEffect | null;
  readonly layers: readonly LayerEffect[];
  readonly logits: ValueEffect | null;
  readonly tokenIds: Beside<readonly number[]>;
  readonly sameText: boolean;
}

/** Compares a run with the one that has nothing changed. */
export function effectOf(unchanged: LiveRun, changed: LiveRun): Effect {
  // Values that patches made beside the model's own are not compared, and second names count once.
  const own = decoderGraph(unchanged.model.config);
  const order = executionOrder(own);
  const values = order.filter(({ op }) => op.kind !== "identity");
  const effects = new Map(values.flatMap(({ name }) => compared(name, unchanged, changed)));
  const all = [...effects.values()];
  const differing = all.filter((effect) => effect.changed > 0).map(({ value }) => value);
  const elements = total(all);
  const first = firstBeyondRounding(unchanged, changed, differing, elements.of);
  const logits = own.at({ what: "final-logits" }) ?? own.at({ what: "logits" })!;
  return {
    values: { changed: differing.length, of: all.length },
    elements,
    nonFinite: sumOf(all),
    first: first === undefined ? null : effects.get(first)!,
    layers: layerEffects(own, effects),
    logits: effects.get(logits.name) ?? null,
    tokenIds: { without: unchanged.tokenIds, with: changed.tokenIds },
    sameText: String(unchanged.tokenIds) === String(changed.tokenIds),
  };
}

function compared(name: string, unchanged: LiveRun, changed: LiveRun): [string, ValueEffect][] {
  const [a, b] = [unchanged.values.get(name), changed.values.get(name)];
  if (!a || !b || a.length !== b.length) return [];
  let differing = 0;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i] && !(Number.isNaN(a[i]!) && Number.isNaN(b[i]!))) differing++;
  const [one, other] = [sizeOf(a), sizeOf(b)];
  const effect = {
    value: name,
    changed: differing,
    of: a.length,
    largest: { without: one.largest, with: other.largest },
    nonFinite: { without: one.nonFinite, with: other.nonFinite },
  };
  return [[name, effect]];
}

function sizeOf(values: Float64Array): { largest: number; nonFinite: number } {
  let largest = 0;
  let nonFinite = 0;
  for (const x of values) {
    if (!Number.isFinite(x)) nonFinite++;
    else if (Math.abs(x) > largest) largest = Math.abs(x);
  }
  return { largest, nonFinite };
}

function total(effects: readonly Share[]): Share {
  return effects.reduce((sum, { changed, of }) => ({ changed: sum.changed + changed, of: sum.of + of }), {
    changed: 0,
    of: 0,
  });
}

function sumOf(effects: readonly ValueEffect[]): Beside<number> {
  return effects.reduce(
    (sum, { nonFinite }) => ({ without: sum.without + nonFinite.without, with: sum.with + nonFinite.with }),
    { without: 0, with: 0 },
  );
}

function layerEffects(graph: Graph, effects: ReadonlyMap<string, ValueEffect>): LayerEffect[] {
  const layers: LayerEffect[] = [];
  for (let layer = 0; ; layer++) {
    const stream = graph.streamAfter(layer);
    if (!stream) return layers;
    const effect = effects.get(stream.name);
    if (!effect) continue;
    const within = [...effects.values()].filter(({ value }) => graph.node(value).layer === layer);
    layers.push({ ...effect, layer, elements: total(within) });
  }
}
