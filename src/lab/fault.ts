import type { CauseId } from "../diagnose/causes/catalogue.js";
import type { CauseKind } from "../diagnose/causes/cause-entry.js";
import type { Transform } from "../diagnose/causes/transforms.js";
import type { Graph, GraphNode } from "../spec/graph.js";
import type { ModelConfig } from "../spec/models/config.js";
import type { PlacedStep } from "../spec/rows.js";
import type { ChangedParameter } from "../tensor/changed-parameters.js";
import type { ParameterReader } from "../tensor/checkpoint.js";
import type { DType } from "../tensor/dtype.js";
import type { PageMetadata } from "./paged-cache.js";

/** Drawn settings of one injection. */
export type FaultValues = Readonly<Record<string, number | string>>;

/** The model a fault is put into. */
export interface FaultContext {
  readonly graph: Graph;
  readonly config: ModelConfig;
  readonly parameters: ParameterReader;
  readonly store: DType;
  readonly values: FaultValues;
}

/** What differs from a correct run. */
export interface Injection {
  /** Replaced and added nodes. */
  readonly nodes?: readonly GraphNode[];
  /** Parameters as the faulty runtime holds them. */
  readonly parameters?: ReadonlyMap<string, ChangedParameter>;
  /** Values such a runtime has no place to record. */
  readonly unrecorded?: readonly string[];
  /** The dtype a record claims where it is not the dtype of its bytes. */
  readonly claimed?: ReadonlyMap<string, DType>;
  /** Page metadata of a step as the faulty host builds it. */
  readonly pages?: (metadata: PageMetadata, step: PlacedStep) => PageMetadata;
  /** Records that hold the bytes of another value: their buffer was reused before it was copied. */
  readonly overwritten?: ReadonlyMap<string, string>;
  /** Part of the key/value heads that a rank keeps, whatever it takes it for; the right one unless given. */
  readonly keyPartOf?: (rank: number) => number;
}

/** The run a fault needs to show at all; over ranks, as many as its setting `ranks` says. */
export type Situation =
  | "any"
  | "several-sequences"
  | "chunked"
  | "decode-batch"
  | "paged"
  | "last-token"
  | "long"
  | "ranks";

/** One thing that goes wrong in real runtimes, as data and a function that makes a run show it. */
export interface Fault {
  /** Number of the public taxonomy and a readable name: `I15-norm-missing`. */
  readonly id: string;
  readonly title: string;
  readonly kind: CauseKind;
  /** What it makes of the right result; of two that sit together, of the first. */
  readonly transform: Transform;
  /** Whether it is put into layers or into the model as a whole. */
  readonly scope: "layer" | "model";
  readonly situation: Situation;
  /** Causes that name it rightly. */
  readonly expected: readonly CauseId[];
  /** How many of them sit in it together, all to be named; 1 unless given. */
  readonly together?: number;
  /** Inputs on which a run with the fault equals one without. */
  readonly hiddenWhen: string;
  /** Draws the settings of one injection. */
  parameters(random: () => number, config: ModelConfig): FaultValues;
  applies(config: ModelConfig, store: DType, layer: number): boolean;
  /** @param layer the layer to put it into; -1 for faults of the model. */
  inject(context: FaultContext, layer: number): Injection;
  /** The first values that are wrong, each judged on its own inputs. */
  firstBad(context: FaultContext, layer: number): readonly string[];
}

type FaultDefinition = Pick<Fault, "id" | "title" | "kind" | "transform" | "expected" | "inject" | "firstBad"> &
  Partial<Fault>;

/** A fault of a layer, with the usual defaults filled in. */
export function fault(definition: FaultDefinition): Fault {
  return {
    scope: "layer",
    situation: "any",
    hiddenWhen: "never",
    parameters: () => ({}),
    applies: () => true,
    ...definition,
  };
}

/** One element of `choices`. */
export function choose<T>(random: () => number, choices: readonly T[]): T {
  return choices[Math.floor(random() * choices.length)]!;
}

/** A whole number from `first` to `last`. */
export function integer(random: () => number, first: number, last: number): number {
  return first + Math.floor(random() * (last - first + 1));
}

/** Names of a layer's values. */
export function layerPath(layer: number) {
  const path = `model.layers.${layer}`;
  return { path, attn: `${path}.self_attn`, mlp: `${path}.mlp` };
}

/** The value a layer reads as its residual stream. */
export function streamInto(layer: number): string {
  return layer === 0 ? "model.embed_tokens" : `model.layers.${layer - 1}`;
}
