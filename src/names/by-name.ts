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
  const beside = {
    has: (part: string) => tensors.some(({ name }) => name.includes(part)),
    shapeOf: (wanted: string) => tensors.find(({ name }) => name === wanted)?.shape,
    calls: (family: string) =>
      new Set(tensors.filter(({ name }) => name.startsWith(`${family}.`)).map(({ name }) => name.split(".")[1])).size,
  };
  const place = (tensor: DumpTensor, node: GraphNode, placement: Placement) => {
    const fits = (way: Placement) => shapes.place(tensor, way, node) !== undefined;
    const fitting = fittingWay(shapes.waysOf(tensor, node), placement, fits);
    if (fitting) (fitting.unsure ? open : placed).push(fitting);
    else refused.set(tensor.name, `its name says ${node.name}, its shape [${tensor.shape.join(", ")}] does not`);
    return fitting !== undefined;
  };
  const inputs: { tensor: DumpTensor; placement: Placement; node: GraphNode }[] = [];
  for (const tensor of tensors) {
    const meaning = meaningOf(tensor.name, tensor.shape.at(-1) ?? 0, graph, beside);
    for (const { value, columns, role, by } of meaning?.values ?? []) {
      const placement: Placement = {
        tensor: tensor.name,
        value,
        ...(columns && { columns: [...columns] as [number, number] }),
        ...(role && { role, by }),
        evidence: meaning!.evidence,
      };
      const node = graph.find(value);
      // The spec knows it as several values of one module.
      if (!node) placed.push(placement);
      else if (role === "input") inputs.push({ tensor, placement, node });
      else if (held.has(value)) refused.set(tensor.name, `${value} is another tensor's already`);
      else if (place(tensor, node, placement)) held.add(value);
    }
  }
  for (const { tensor, placement, node } of inputs) {
    // Recorded by its reader alone, it stands for what was made.
    const { role: _, by: __, ...made } = placement;
    if (place(tensor, node, held.has(node.name) ? placement : made)) held.add(node.name);
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
