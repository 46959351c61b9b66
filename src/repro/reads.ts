import type { Investigation } from "../diagnose/check/investigation.js";
import { Evaluator, type Observations, type ObservedRow } from "../spec/evaluator.js";
import type { ParameterReader } from "../tensor/checkpoint.js";
import type { CaseInput, CaseParameter, CaseRow } from "./unit-case.js";

/** Elements of parameters, and of inputs, that are copied out of one unit. */
const mostParameters = 2 ** 22;
const mostInputs = 2 ** 22;

interface Read {
  readonly name: string;
  readonly readAt: number | undefined;
  readonly rows: Map<number, Float64Array>;
}

interface ParameterRead {
  readonly shape: readonly number[];
  readonly rows: Map<number, Float64Array>;
}

/**
 * What a unit reads: the spec is evaluated on the elements asked for, and every recorded row and every row of a parameter
 * that it asks for is written down, as the op that asked was given it.
 */
export class Reads implements Observations {
  readonly #inputs = new Map<string, Read>();
  readonly #parameters = new Map<string, ParameterRead>();
  #parameterElements = 0;
  #inputElements = 0;

  constructor(
    readonly investigation: Investigation,
    unit: string,
    rows: Int32Array,
    columns: Int32Array,
  ) {
    const parameters = this.#watched(investigation.parameters);
    const evaluator = new Evaluator({ ...investigation.evaluator, parameters, observations: this, noise: false });
    evaluator.evaluate(unit, rows, columns);
  }

  /** Whether all inputs that the elements rest on were few enough to be copied. */
  get isWhole(): boolean {
    return this.#inputElements <= mostInputs;
  }

  inputs(): CaseInput[] {
    return [...this.#inputs.values()].map(({ name, readAt, rows }) => {
      const order = [...rows.keys()].sort((a, b) => a - b);
      const { capture } = this.investigation;
      return {
        name,
        ...(readAt !== undefined && { readAt: capture.steps[readAt]!.step }),
        rows: order.map((row) => caseRow(this.investigation, row)),
        values: joined(order.map((row) => rows.get(row)!)),
      };
    });
  }

  parameters(): CaseParameter[] {
    const fits = this.#parameterElements <= mostParameters;
    return [...this.#parameters].map(([name, { shape, rows }]) => {
      const order = [...rows.keys()].sort((a, b) => a - b);
      const values = fits ? joined(order.map((row) => rows.get(row)!)) : undefined;
      return { name, shape, rows: order, values };
    });
  }

  has(name: string): boolean {
    return this.investigation.observations.has(name);
  }

  row(name: string, row: number, consumer: string, readAt?: number): ObservedRow | undefined {
    const found = this.investigation.observations.row(name, row, consumer, readAt);
    // Where rounding leaves open which result is right, an op asks for its own record.
    if (!found || name === consumer) return found;
    const isCache = this.investigation.graph.find(name)?.op.kind === "append";
    const at = isCache ? readAt : undefined;
    const key = `${name} ${at ?? ""}`;
    let read = this.#inputs.get(key);
    if (!read) {
      read = { name, readAt: at, rows: new Map() };
      this.#inputs.set(key, read);
    }
    if (!read.rows.has(row)) this.#inputElements += found.value.length;
    if (this.isWhole && !read.rows.has(row)) read.rows.set(row, found.value.slice());
    return found;
  }

  settled: NonNullable<Observations["settled"]> = (name, row, op) =>
    this.investigation.observations.settled(name, row, op);

  #watched(reader: ParameterReader): ParameterReader {
    const note = (name: string, first: number, values: Float64Array) => {
      const shape = reader.shape(name) ?? [values.length];
      const width = shape.at(-1)!;
      let read = this.#parameters.get(name);
      if (!read) {
        read = { shape, rows: new Map() };
        this.#parameters.set(name, read);
      }
      // Parts of rows are not copied: what they belong to could not be told from the file.
      if (first % width !== 0 || values.length % width !== 0) this.#parameterElements = Infinity;
      for (let at = 0; at < values.length; at += width) {
        const row = (first + at) / width;
        if (read.rows.has(row)) continue;
        this.#parameterElements += width;
        if (this.#parameterElements <= mostParameters) read.rows.set(row, values.slice(at, at + width));
      }
      return values;
    };
    return {
      shape: (name) => reader.shape(name),
      names: () => reader.names(),
      rows: (name, first, count) => {
        const shape = reader.shape(name) ?? [0];
        const width = shape.length > 1 ? shape.slice(1).reduce((product, n) => product * n, 1) : 0;
        return note(name, first * width, reader.rows(name, first, count));
      },
      ...(reader.elements && {
        elements: (name: string, first: number, count: number) =>
          note(name, first, reader.elements!(name, first, count)),
      }),
      ...(reader.asStored && { asStored: this.#watched(reader.asStored) }),
      ...(reader.dtype && { dtype: (name: string) => reader.dtype!(name) }),
    };
  }
}

/** Where a row of a run stands. */
export function caseRow({ observations, capture }: Investigation, row: number): CaseRow {
  const { rows } = observations;
  const stepIndex = rows.stepOf[row]!;
  const rotary = rows.rotaryPosition(row);
  const position = rows.position[row]!;
  return {
    token: rows.token[row]!,
    step: stepIndex < 0 ? -1 : capture.steps[stepIndex]!.step,
    sequence: rows.seqId[row]!,
    position,
    ...(rotary !== position && { rotary }),
  };
}

function joined(rows: readonly Float64Array[]) {
  const width = rows[0]?.length ?? 0;
  const values = new Float64Array(rows.length * width);
  rows.forEach((row, i) => {
    values.set(row, i * width);
  });
  return { shape: [rows.length, width], values };
}
