import type { KnownName } from "../importers/dump.js";
import type { Graph, GraphNode } from "../spec/graph.js";
import type { Neighbours } from "./known-names.js";

/** What stands for a call's place in a step: its family, which of it, and the argument. */
const callName = /^(norm\d+|gated|rope|append|attention)\.(\d+)\.(\w+)$/;

/**
 * The values that an argument of FlashInfer's calls is, by the call's place among those of its family in a step; undefined
 * where a step does not have as many of them as the model.
 */
export function flashinferValues(name: string, graph: Graph, beside: Neighbours): KnownName[] | undefined {
  const found = callName.exec(name);
  if (!found) return undefined;
  const [, family, ordinal, argument] = found as unknown as [string, string, string, string];
  const nodes = nodesOf(family, graph);
  const node = nodes[Number(ordinal)];
  if (!node || beside.calls(family) !== nodes.length) return undefined;
  const read = (value: string | undefined): KnownName[] | undefined =>
    value === undefined ? undefined : [{ value, role: "input", by: node.op.kind }];
  const result = argument === "result" || argument === "result_0";
  switch (family) {
    case "gated": {
      if (result) return [{ value: node.name }];
      const [gate, up] = [
        graph.at({ what: "gate", block: "mlp", layer: node.layer }),
        graph.at({ what: "up", block: "mlp", layer: node.layer }),
      ];
      if (!gate || !up) return undefined;
      return [
        { value: gate.name, columns: [0, gate.columns] },
        { value: up.name, columns: [gate.columns, up.columns] },
      ];
    }
    case "rope": {
      const key = graph.at({ what: "key-rotated", layer: node.layer });
      if (result) return [{ value: node.name }];
      if (argument === "result_1") return key && [{ value: key.name }];
      return read(argument.startsWith("q") ? node.inputs[0] : key?.inputs[0]);
    }
    case "append":
    case "attention": {
      const { layer } = node;
      if (result) return [{ value: node.name }];
      if (argument === "q") return read(node.inputs[0]);
      const isKey = argument === "k" || argument === "append_key";
      return read(graph.at({ what: isKey ? "key-rotated" : "value", layer })?.name);
    }
    default:
      return normed(node, argument, graph, beside.shapeOf(`${family}.${ordinal}.residual`) !== undefined);
  }
}

function nodesOf(family: string, graph: Graph): GraphNode[] {
  const all = [...graph.nodes.values()];
  if (family === "gated") return graph.all("gated", "mlp");
  if (family === "rope") return graph.all("query-rotated").filter(({ op }) => op.kind === "rope");
  if (family === "append" || family === "attention") return graph.all("mixed");
  const width = Number(family.slice("norm".length));
  return all.filter(({ op, heads, columns }) => op.kind === "rmsnorm" && (heads ? columns / heads : columns) === width);
}

/** A norm's input and result; where it adds a residual first, what it adds to what. */
function normed(node: GraphNode, argument: string, graph: Graph, isFused: boolean): KnownName[] | undefined {
  if (argument === "result") return [{ value: node.name }];
  const input = graph.node(node.inputs[0]!);
  if (!isFused) return [{ value: input.name, role: "input", by: node.op.kind }];
  if (input.op.kind !== "add") return undefined;
  const [stream, branch] = input.inputs;
  const value = argument === "residual" ? stream : branch;
  return value === undefined ? undefined : [{ value, role: "input", by: input.op.kind }];
}
