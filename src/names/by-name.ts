import type { DumpTensor } from "../importers/dump.js";
import type { Placement } from "../importers/names-file.js";
import type { GraphNode } from "../spec/graph.js";
import { meaningOf } from "./known-names.js";
import type { MappingContext } from "./map-names.js";

/** What names say. */
export interface Named {
  readonly placed: readonly Placement[];
  /** Known by name, but with axes that may have several orders: their numbers have to tell. */
  readonly open: readonly Placement[];
  /** Tensors of known names that were not placed, and why. */
  readonly refused: ReadonlyMap<string, string>;
}

/** Places tensors whose names are known, where their shapes agree. */
export function placeByName({ graph, tensors, shapes }: MappingContext): Named {
  const placed: Placement[] = [];
  const open: Placement[] = [];
  const refused = new Map<string, string>();
  const held = new Set<string>();
  const has = (part: string) => tensors.some(({ name }) => name.includes(part));
  const inputs: { tensor: DumpTensor; placement: Placement; node: GraphNode }[] = [];
  for (const tensor of tensors) {
    const meaning = meaningOf(tensor.name, tensor.shape.at(-1) ?? 0, graph, has);
    if (!meaning) continue;
    for (const { value, columns, role, by } of meaning.values) {
      const placement: Placement = {
        tensor: tensor.name,
        value,
        ...(columns && { columns: [...columns] as [number, number] }),
        ...(role && { role, by }),
        evidence: meaning.evidence,
      };
      const node = graph.find(value);
      // The spec knows it as several values of one module.
      if (!node) {
        placed.push(placement);
        continue;
      }
      if (role === "input") {
        inputs.push({ tensor, placement, node });
        continue;
      }
      if (held.has(value)) {
        refused.set(tensor.name, `${value} is another tensor's already`);
        continue;
      }
      const fitting = fittingWay(
        shapes.waysOf(tensor, node),
        placement,
        (way) => shapes.place(tensor, way, node) !== undefined,
      );
      if (!fitting) {
        refused.set(tensor.name, `its name says ${value}, its shape [${tensor.shape.join(", ")}] does not`);
        continue;
      }
      held.add(value);
      (fitting.unsure ? open : placed).push(fitting);
    }
  }
  for (const { tensor, placement, node } of inputs) {
    // Recorded by its reader alone, it stands for what was made.
    const { role: _, by: __, ...made } = placement;
    const form = held.has(node.name) ? placement : made;
    if (!shapes.place(tensor, form, node)) refused.set(tensor.name, "its shape is not that of what its module reads");
    else placed.push(form);
    held.add(node.name);
  }
  return { placed, open, refused };
}

/** The named placement itself, or with what its shape asks for beside; unsure where the axes may have several orders. */
function fittingWay(
  ways: readonly Placement[],
  placement: Placement,
  fits: (placement: Placement) => boolean,
): Placement | undefined {
  if (placement.columns) return fits(placement) ? placement : undefined;
  const [way, ...others] = ways.filter(({ columns }) => columns === undefined);
  if (!way) return undefined;
  const { heads, dims } = way;
  const form = { ...placement, ...(heads && { heads }), ...(dims && { dims }) };
  return others.length > 0 && !way.heads
    ? { ...form, unsure: true, evidence: "its name; its axes may have another order" }
    : form;
}
