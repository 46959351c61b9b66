import type { Patch, PatchableModel, Rewrite } from "../../engine/program/patch.js";
import type { What } from "../../spec/site.js";
import { InputError } from "../../tensor/errors.js";
import { findFault } from "../catalogue.js";
import type { Fault } from "../fault.js";
import { gaussian, randomGenerator, seedOf } from "../random.js";
import { layersOf } from "./layers.js";
import { biased, oneTerm, scaled, streamSum } from "./patches.js";

/** A fault that can be put into a running path and taken out again. */
export interface LiveFault extends Patch {
  /** What it is called on the command line. */
  readonly name: string;
}

/** The three of the exclamation mark, as that case has them. */
export const exclamationMark: readonly LiveFault[] = [
  {
    name: "embedding-scaled",
    title: "embeddings are multiplied by 1/sqrt(hidden)",
    rewrite: (model) => scaled(model, [model.graph.at({ what: "embedding" })!.name], model.config.hiddenSize ** -0.5),
  },
  {
    name: "residual-dropped",
    title: "`residual + attention` is left out in every layer",
    rewrite: (model) =>
      oneTerm(
        model,
        layersOf(model.config, "*").map((layer) => streamSum(model, layer, "attention")),
        "branch",
      ),
  },
  {
    name: "bias-uninitialised",
    title: "in layer 1 q, k and v add a bias that no checkpoint fills",
    rewrite: uninitialisedBias,
  },
];

/** What such memory was seen to hold beside small noise: one channel each. */
const leftOver = [1.7e29, -3.1e28, 8.8e-12, 4.4e27, -2.2];

function uninitialisedBias(model: PatchableModel): Rewrite {
  const layer = Math.min(1, model.config.layerCount - 1);
  const products: readonly What[] = ["query", "key", "value"];
  const names = products.map((what) => model.graph.at({ what, layer })!.name);
  return biased(model, names, (name, columns) => {
    const random = randomGenerator(seedOf(name));
    const values = Float64Array.from({ length: columns }, () => 0.02 * gaussian(random));
    for (const value of leftOver) values[Math.floor(random() * columns)] = value;
    return values;
  });
}

/**
 * The faults that a name stands for: one of the exclamation mark's, all three of them as `exclamation-mark`, or one of the
 * lab's by its id, a layer's with the layers it is put into: `I63-residual-doubled@0-3`.
 * @throws InputError when there is none.
 */
export function liveFaults(name: string): readonly LiveFault[] {
  if (name === "exclamation-mark") return exclamationMark;
  const known = exclamationMark.find((fault) => fault.name === name);
  if (known) return [known];
  const [id = "", layers] = name.split("@", 2);
  const fault = findFault(id);
  if (fault.scope === "layer" && layers === undefined)
    throw new InputError(`fault "${fault.id}": expected the layers it is put into, such as ${fault.id}@0-3`);
  if (fault.scope === "model" && layers !== undefined)
    throw new InputError(`fault "${fault.id}": expected no layers, it is one of the whole model`);
  return [{ name, title: fault.title, rewrite: (model) => injected(fault, layers, model) }];
}

/** A fault of the lab, with settings drawn from its id: the same in every run. */
function injected(fault: Fault, layers: string | undefined, { config, graph, parameters }: PatchableModel): Rewrite {
  const store = "float32";
  const values = fault.parameters(randomGenerator(seedOf(fault.id)), config);
  const places = layers === undefined ? [-1] : layersOf(config, layers);
  const refused = places.find((layer) => !fault.applies(config, store, layer));
  if (refused !== undefined)
    throw new InputError(
      `fault "${fault.id}": expected a model${refused < 0 ? "" : ` with a layer ${refused}`} that it can be put into`,
    );
  let patched = graph;
  const changed = new Map<string, { shape: readonly number[]; values: Float64Array }>();
  for (const layer of places) {
    const injection = fault.inject({ graph: patched, config, parameters, store, values }, layer);
    const { nodes = [], parameters: own = new Map(), unrecorded, ...ofRecord } = injection;
    if (Object.values(ofRecord).some((part) => part !== undefined))
      throw new InputError(
        `fault "${fault.id}": expected one of the run itself, this is one of its recording or its host`,
      );
    patched = patched.with(nodes);
    for (const [name, parameter] of own) changed.set(name, parameter);
  }
  const nodes = [...patched.nodes.values()].filter((node) => graph.find(node.name) !== node);
  return { nodes, parameters: changed };
}
