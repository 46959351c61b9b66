import type { GraphNode, Part } from "../graph.js";
import type { Op } from "../op.js";
import { outsideLayers, type Place, type Placed, type Site, type What } from "../site.js";

/** A parameter that the spec reads by `name`. */
export interface DeclaredParameter {
  readonly name: string;
  /** What it is: a norm's weight, of the stream or of heads, or what a product multiplies by, biases included. */
  readonly kind: "norm" | "head-norm" | "projection";
  readonly layer: number | undefined;
  /** The value that is made with it, where it is one value's alone. */
  readonly site: Site | undefined;
  readonly isBias: boolean;
  /** [rows, columns], or [columns] of a vector. */
  readonly shape: readonly number[];
  /** Where a checkpoint keeps it, when it is the rows of a larger parameter there. */
  readonly part: Part | undefined;
}

/** Channels of a value, and its heads where it has any. */
export interface Size {
  readonly columns: number;
  readonly heads?: number;
}

/** What a family says of one decoder: its values in execution order, and the parameters they read. */
export class Declaration {
  readonly nodes: GraphNode[] = [];
  readonly parameters: DeclaredParameter[] = [];
  /** Values that modules return as columns of a larger one, by the value's name. */
  readonly parts = new Map<string, Part>();

  /** Declares a value and returns its name. */
  value(placed: Placed, op: Op, inputs: readonly string[], size: Size, part?: Part): string {
    const { layer } = placed.site;
    this.nodes.push({ ...placed, op, inputs, ...size, ...(layer !== undefined && { layer }) });
    if (part) this.parts.set(placed.name, part);
    return placed.name;
  }

  /** Declares a value before or behind the layers and returns its name. */
  outside(name: string, what: What, op: Op, inputs: readonly string[], size: Size): string {
    return this.value(outsideLayers(name, what), op, inputs, size);
  }

  /** Declares a parameter and returns its name. */
  parameter(
    name: string,
    kind: DeclaredParameter["kind"],
    shape: readonly number[],
    {
      site,
      layer = site?.layer,
      part,
      isBias = false,
    }: Partial<Pick<DeclaredParameter, "site" | "layer" | "part" | "isBias">> = {},
  ): string {
    this.parameters.push({ name, kind, layer, site, isBias, shape, part });
    return name;
  }
}

/** One decoder layer of a declaration: names are given without the layer's own path. */
export class LayerScope {
  readonly path: string;

  constructor(
    readonly declaration: Declaration,
    readonly layer: number,
  ) {
    this.path = `model.layers.${layer}`;
  }

  /**
   * Name and site of a value of the layer.
   * @param module path within the layer, "" for the layer itself; a `*` in it stands for the number of `expert`.
   */
  place(module: string, what: What, block: Place["block"], expert?: number): Placed {
    const behind = module === "" ? "" : `.${module}`;
    const name = `${this.path}${behind.replace("*", String(expert))}`;
    const site = { name, role: `model.layers.*${behind}`, block, what, layer: this.layer };
    return { name, site: expert === undefined ? site : { ...site, expert } };
  }
  /** Declares a parameter of the layer that products multiply by and returns its name. */
  parameter(name: string, shape: readonly number[]): string {
    return this.declaration.parameter(name, "projection", shape, { layer: this.layer });
  }
}
