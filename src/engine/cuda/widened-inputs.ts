import { formatOf } from "../device/element-format.js";
import { columnsOf, dtypeOf, type Place, Places } from "../device/places.js";
import type { KernelStep } from "../program/step.js";
import type { CudaLaunch } from "./launch.js";
import type { Modules } from "./modules.js";
import { operandType } from "./narrow-output.js";
import { launch, type StepContext } from "./step-context.js";

/** Rows of one element type as dense rows of another. */
export function convert(modules: Modules, label: string, from: Place, to: Place): CudaLaunch {
  const columns = columnsOf(to);
  const values = {
    input: from.buffer,
    output: to.buffer,
    columns,
    inputStride: from.rowStride,
    inputOffset: from.offset,
    inputFormat: formatOf(dtypeOf(from), label),
    outputFormat: formatOf(dtypeOf(to), label),
  };
  const rows = to.per === "sequence" ? "sequences" : "rows";
  return launch(modules, label, "convert", values, (shape) => [Math.ceil(columns / 8 / 64), shape[rows], 1]);
}

/** Places as a step reads them, some of its inputs being copies. */
class CopiedPlaces extends Places {
  constructor(
    readonly below: Places,
    readonly copies: ReadonlyMap<string, Place>,
  ) {
    super(below.usual);
  }

  override get program(): Places {
    return this.below.program;
  }

  override of(name: string): Place {
    return this.copies.get(name) ?? this.below.of(name);
  }

  override move(name: string, place: Place): void {
    this.below.move(name, place);
  }
}

/** What a library left in its own element type, once more in float32 where the step's kernels take nothing else. */
export function widenInputs(
  step: KernelStep,
  context: StepContext,
): { readonly launches: CudaLaunch[]; readonly context: StepContext } {
  const { modules, places } = context;
  const narrow = inputsOf(step, context).filter((name) => dtypeOf(places.of(name)) !== "float32");
  if (narrow.length === 0) return { launches: [], context };
  const copies = new Map(narrow.map((name) => [name, places.usual.get(name)!] as const));
  const launches = [...copies].map(([name, to]) => convert(modules, "widen", places.of(name), to));
  return { launches, context: { ...context, places: new CopiedPlaces(places, copies) } };
}

function inputsOf(step: KernelStep, context: StepContext): readonly string[] {
  switch (step.kind) {
    case "norm":
    case "rotate":
      return [step.input];
    case "project":
      return [
        // Tensor cores take their own type as it is.
        ...(operandType(step, context) === dtypeOf(context.places.of(step.input)) ? [] : [step.input]),
        ...(step.residual === undefined ? [] : [step.residual]),
      ];
    case "pointwise":
      return step.inputs;
    case "append":
      return step.prologue ? [] : step.caches.map(({ input }) => input);
    default:
      return [];
  }
}
