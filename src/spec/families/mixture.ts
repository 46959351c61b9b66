import type { DType } from "../../tensor/dtype.js";
import type { ExpertWeights } from "../expert-weights.js";
import { type ActivationName, activation } from "../ops/activation.js";
import { add } from "../ops/add.js";
import { chooseExperts } from "../ops/choose-experts.js";
import { type ClampedSwigluAttributes, clampedSwiglu } from "../ops/clamped-swiglu.js";
import { combineExperts } from "../ops/combine-experts.js";
import { expertLinear } from "../ops/expert-linear.js";
import { identity } from "../ops/identity.js";
import { linear } from "../ops/linear.js";
import { multiply } from "../ops/multiply.js";
import type { Routing } from "../ops/routing.js";
import { routingWeights } from "../ops/routing-weights.js";
import { scaleRows } from "../ops/scale-rows.js";
import type { What } from "../site.js";
import type { LayerScope } from "./declaration.js";

/** A mixture of experts in place of an MLP, as one layer of a family has it. */
export interface Mixture {
  readonly routing: Routing;
  /** The router's module within the MLP's, and its parameters. */
  readonly router: { readonly module: string; readonly weight: string; readonly bias?: string | undefined };
  /** The type of the weights, where it is not the run's. */
  readonly weightsType?: DType | undefined;
  /** Channels of a token, and inside one expert. */
  readonly hidden: number;
  readonly width: number;
  readonly experts: ExpertProjections;
  readonly gating: ActivationName | ClampedSwigluAttributes;
  readonly shared?: SharedExpert | undefined;
}

/** The three products of an expert. */
export interface ExpertProjections {
  readonly gate: ExpertWeights;
  readonly up: ExpertWeights;
  readonly down: ExpertWeights;
}

/** An expert that every token goes through; `gate` is the module of its sigmoid gate [1, hidden], where it has one. */
export interface SharedExpert {
  readonly module: string;
  readonly width: number;
  readonly activation: ActivationName;
  readonly gate?: string | undefined;
}

const module = "mlp";

/** Experts of which each has modules of its own, at `path`.0, `path`.1, …, and what they are called. */
export function expertModules(
  path: string,
  count: number,
  names: { readonly gate: string; readonly up: string; readonly down: string },
): ExpertProjections {
  const each = (name: string) => ({ weight: Array.from({ length: count }, (_, e) => `${path}.${e}.${name}.weight`) });
  return { gate: each(names.gate), up: each(names.up), down: each(names.down) };
}

/** A mixture of experts from the normalised stream `input`: the name of what it adds to the stream. */
export function mixtureBranch(scope: LayerScope, input: string, mixture: Mixture): string {
  const { declaration } = scope;
  const { routing, router, hidden } = mixture;
  const { topK, experts: count } = routing;
  const size = { columns: hidden };
  const inRouter = (name: string, what: What) => scope.place(`${module}.${router.module}${name}`, what, "mlp");
  const weight = scope.parameter(router.weight, [count, hidden]);
  const bias = router.bias && scope.parameter(router.bias, [count]);
  if (routing.bias) scope.parameter(routing.bias, [count]);
  const scores = linear({ weight, bias, dtype: routing.logitsType });
  const logits = declaration.value(inRouter("", "router"), scores, [input], { columns: count });
  const slots = { columns: topK };
  const chosen = declaration.value(inRouter(".indices", "chosen"), chooseExperts(routing), [logits], slots);
  const weigh = routingWeights(routing, mixture.weightsType);
  const weights = declaration.value(inRouter(".scores", "routing-weight"), weigh, [logits, chosen], slots);
  const outputs = chosenExperts(scope, input, chosen, mixture);
  const routed = declaration.value(
    scope.place(`${module}.experts`, "routed", "mlp"),
    combineExperts({ topK }),
    [outputs, weights, chosen],
    size,
  );
  const shared = mixture.shared && sharedExpert(scope, input, hidden, mixture.shared);
  const branch = scope.place(module, "branch", "mlp");
  return shared
    ? declaration.value(branch, add(), [routed, shared], size)
    : declaration.value(branch, identity(), [routed], size);
}

/** The outputs of each token's chosen experts, [rows, topK × hidden]: their name. */
function chosenExperts(scope: LayerScope, input: string, chosen: string, mixture: Mixture): string {
  const { declaration } = scope;
  const { hidden, width, experts, gating } = mixture;
  const { topK } = mixture.routing;
  const wide = { columns: topK * width };
  const place = (name: string, what: What) => scope.place(`${module}.experts.${name}`, what, "experts");
  const product = (weights: ExpertWeights, columns: number, inputs: number, ownInputs: boolean) => {
    declareExperts(scope, weights, mixture.routing.experts, columns, inputs);
    return expertLinear({ ...weights, topK, width: columns, ownInputs });
  };
  const gateOp = product(experts.gate, width, hidden, false);
  const gate = declaration.value(place("gate_proj", "gate"), gateOp, [input, chosen], wide);
  const up = declaration.value(
    place("up_proj", "up"),
    product(experts.up, width, hidden, false),
    [input, chosen],
    wide,
  );
  const into = place("down_proj.input", "gated");
  const gated =
    typeof gating === "string"
      ? declaration.value(
          into,
          multiply(),
          [declaration.value(place("act_fn", "activated"), activation(gating), [gate], wide), up],
          wide,
        )
      : declaration.value(into, clampedSwiglu(gating), [gate, up], wide);
  return declaration.value(place("down_proj", "output"), product(experts.down, hidden, width, true), [gated, chosen], {
    columns: topK * hidden,
  });
}

/** Parameters of one product of all experts; gate and up may be rows of the same. */
function declareExperts(
  scope: LayerScope,
  { weight, bias, transposed, step = 1, first }: ExpertWeights,
  experts: number,
  columns: number,
  inputs: number,
): void {
  if (typeof weight !== "string") {
    for (const name of weight) scope.parameter(name, [columns, inputs]);
    if (Array.isArray(bias)) for (const name of bias) scope.parameter(name, [columns]);
    return;
  }
  // Where gate and up share a parameter, gate, its first row, declares both.
  const shared = first !== undefined || step > 1;
  if (shared && first !== 0) return;
  const rows = shared ? 2 * columns : columns;
  scope.parameter(weight, transposed ? [experts, inputs, rows] : [experts, rows, inputs]);
  if (typeof bias === "string") scope.parameter(bias, [experts, rows]);
}

/** What the shared expert adds: its name. */
function sharedExpert(scope: LayerScope, input: string, hidden: number, shared: SharedExpert): string {
  const { declaration } = scope;
  const own = `${module}.${shared.module}`;
  const place = (name: string, what: What) => scope.place(`${own}.${name}`, what, "shared");
  const project = (name: string, what: What, from: string, inputs: number, columns: number) => {
    const placed = place(name, what);
    const weight = scope.parameter(`${placed.name}.weight`, [columns, inputs]);
    return declaration.value(placed, linear({ weight }), [from], { columns });
  };
  const wide = { columns: shared.width };
  const size = { columns: hidden };
  const gate = project("gate_proj", "gate", input, hidden, shared.width);
  const up = project("up_proj", "up", input, hidden, shared.width);
  const active = declaration.value(place("act_fn", "activated"), activation(shared.activation), [gate], wide);
  const gated = declaration.value(place("down_proj.input", "gated"), multiply(), [active, up], wide);
  const down = project("down_proj", "output", gated, shared.width, hidden);
  const output = declaration.value(scope.place(own, "shared", "mlp"), identity(), [down], size);
  if (!shared.gate) return output;
  const of = (name: string, what: What) => scope.place(`${module}.${shared.gate}${name}`, what, "shared");
  const weight = scope.parameter(`${scope.path}.${module}.${shared.gate}.weight`, [1, hidden]);
  const logit = declaration.value(of("", "shared-gate"), linear({ weight }), [input], { columns: 1 });
  const open = declaration.value(of(".act_fn", "shared-gate-open"), activation("sigmoid"), [logit], { columns: 1 });
  return declaration.value(scope.place(`${own}.gated`, "shared", "shared"), scaleRows(), [output, open], size);
}
