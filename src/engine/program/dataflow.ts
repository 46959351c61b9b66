import type { Graph, GraphNode } from "../../spec/graph.js";
import type { Step } from "./step.js";

/** Every value behind those it is made from: a rewrite names its new values last, whoever reads them. */
export function executionOrder(graph: Graph): GraphNode[] {
  const order = new Map<string, GraphNode>();
  const visit = (name: string) => {
    if (order.has(name)) return;
    const node = graph.node(name);
    for (const input of node.inputs) visit(input);
    order.set(name, node);
  };
  for (const name of graph.nodes.keys()) visit(name);
  return [...order.values()];
}

/** The value that `name` is a second name of: the end of a chain of identities. */
export function originOf(graph: Graph, name: string): string {
  const node = graph.node(name);
  return node.op.kind === "identity" ? originOf(graph, node.inputs[0]!) : name;
}

/** `name` and every second name of it, in execution order. */
export function aliasesOf(graph: Graph, name: string): string[] {
  const second = graph.consumers(name).filter((reader) => graph.node(reader).op.kind === "identity");
  return [name, ...second.flatMap((alias) => aliasesOf(graph, alias))];
}

/** Values that read `name`, under whichever of its names. */
export function readersOf(graph: Graph, name: string): string[] {
  const names = aliasesOf(graph, name);
  return names.flatMap((alias) => graph.consumers(alias)).filter((reader) => !names.includes(reader));
}

/** Values a step reads that it does not compute itself; not the input it gets as states of split attention. */
export function valuesRead(graph: Graph, step: Step): string[] {
  const inside = new Set(step.computes);
  const read = new Set<string>();
  for (const name of step.computes) {
    for (const input of graph.node(name).inputs) {
      const origin = originOf(graph, input);
      if (!inside.has(input) && !inside.has(origin)) read.add(origin);
    }
  }
  if (step.kind === "project" && step.merges) read.delete(step.input);
  return [...read];
}

/** Values a step leaves behind: what others read, and what it appends to a cache. */
export function valuesWritten(graph: Graph, step: Step): string[] {
  const inside = new Set(step.computes);
  return step.computes.filter((name) => {
    const { kind } = graph.node(name).op;
    if (kind === "identity" || kind === "select") return false;
    if (kind === "append") return true;
    return readersOf(graph, name).some((reader) => !inside.has(reader));
  });
}

/** What a fused step can be asked to leave besides, for captures: rotated queries and keys. */
export function valuesShown(step: Step): string[] {
  if ((step.kind === "attend" || step.kind === "append") && step.prologue) {
    return [step.prologue.rotatedQuery, step.prologue.rotatedKey];
  }
  return [];
}

/**
 * Checks that a rewritten program still is the spec: every value is computed once, and read after it was.
 * @throws Error naming the step and the value otherwise.
 */
export function expectComplete(graph: Graph, steps: readonly Step[]): void {
  const computed = new Set<string>();
  const left = new Set<string>();
  for (const step of steps) {
    for (const name of valuesRead(graph, step)) {
      if (!left.has(name)) throw new Error(`${step.label} reads ${name}, which no step before it leaves`);
    }
    for (const name of step.computes) {
      if (computed.has(name)) throw new Error(`${step.label} computes ${name} again`);
      computed.add(name);
    }
    for (const name of [...valuesWritten(graph, step), ...valuesShown(step)]) left.add(name);
  }
  for (const { name, op } of graph.nodes.values()) {
    if (op.kind !== "argmax" && !computed.has(name)) throw new Error(`no step computes ${name}`);
  }
}
