import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { byteWidth, type DType, decodeInto } from "./dtype.js";
import { InputError } from "./errors.js";
import { parseJson } from "./json.js";
import type { QuantisedParameter } from "./quantised-parameter.js";
import { Recent } from "./recent.js";
import { SafetensorsFile, type TensorEntry } from "./safetensors.js";

/** A parameter matrix [rows, columns] as the spec reads it; a vector is one row. */
export interface ParameterReader {
  /** Shape of a parameter, or undefined when the checkpoint has none of that name. */
  shape(name: string): readonly number[] | undefined;
  /** Rows `first` to `first + count` of a parameter [rows, columns], as float64. */
  rows(name: string, first: number, count: number): Float64Array;
  /** Elements `first` to `first + count` of a parameter, all its axes in one; a row of one with many axes may be large. */
  elements?(name: string, first: number, count: number): Float64Array;
  names(): Iterable<string>;
  /** The same parameters in the numbers of the checkpoint, where these are not. */
  readonly asStored?: ParameterReader | undefined;
  /** The type a parameter is stored in, where that is known. */
  dtype?(name: string): DType | undefined;
  /** The bytes of a parameter where they lie in a file as they are meant. */
  stored?(name: string): StoredParameter | undefined;
  /** A parameter that is kept in narrow numbers and scales. */
  quantised?(name: string): QuantisedParameter | undefined;
}

/** A parameter as a file holds it. */
export interface StoredParameter {
  readonly dtype: DType;
  /** Fills `target` with the bytes of its rows from `first` on. */
  readInto(target: Uint8Array, first: number): void;
}

const cacheLimitBytes = 32 * 2 ** 20;
const wholeParameterElements = 2 ** 16;

/** The weights of a Hugging Face model folder: `model.safetensors`, or the shards its index names. */
export class Checkpoint implements ParameterReader {
  readonly #files: SafetensorsFile[] = [];
  readonly #where = new Map<string, { file: SafetensorsFile; entry: TensorEntry }>();
  readonly #cache = new Recent<Float64Array>(cacheLimitBytes);
  readonly #piece = new Uint8Array(2 ** 18);

  /** @throws InputError when the folder has no readable weights, or its index and its shards disagree. */
  constructor(readonly directory: string) {
    try {
      for (const [name, parameters] of shards(directory)) this.#open(join(directory, name), parameters);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  names(): Iterable<string> {
    return this.#where.keys();
  }

  entry(name: string): TensorEntry | undefined {
    return this.#where.get(name)?.entry;
  }

  /** Path of the file that holds a parameter. */
  fileOf(name: string): string {
    return this.#located(name).file.path;
  }

  shape(name: string): readonly number[] | undefined {
    return this.#where.get(name)?.entry.shape;
  }

  dtype(name: string): DType | undefined {
    return this.#where.get(name)?.entry.dtype;
  }

  /** The raw bytes of a parameter's rows, in the checkpoint's own dtype. */
  bytes(name: string, first = 0, count = rowCount(this.#located(name).entry.shape)): Uint8Array {
    const { file, entry } = this.#located(name);
    const rowBytes = columnCount(entry.shape) * byteWidth(entry.dtype);
    return file.readBytes(entry, first * rowBytes, count * rowBytes);
  }

  /** Fills `target` with the raw bytes of a parameter's rows from `first` on. */
  readInto(name: string, target: Uint8Array, first: number): void {
    const { file, entry } = this.#located(name);
    file.readInto(target, entry, first * columnCount(entry.shape) * byteWidth(entry.dtype));
  }

  stored(name: string): StoredParameter | undefined {
    const dtype = this.dtype(name);
    return dtype && { dtype, readInto: (target, first) => this.readInto(name, target, first) };
  }

  elements(name: string, first: number, count: number): Float64Array {
    const { shape } = this.#located(name).entry;
    const all = shape.reduce((product, n) => product * n, 1);
    if (first < 0 || count < 0 || first + count > all) {
      throw new InputError(
        `${this.directory}: "${name}" has ${all} elements; elements ${first} to ${first + count - 1} were asked for`,
      );
    }
    const isSmall = all <= wholeParameterElements;
    if (isSmall) return this.#recent(name, 0, all).subarray(first, first + count);
    return this.#recent(name, first, count);
  }

  /** What was read recently stays decoded, up to a fixed number of bytes; small parameters are decoded whole. */
  rows(name: string, first: number, count: number): Float64Array {
    const { shape } = this.#located(name).entry;
    const columns = columnCount(shape);
    const all = rowCount(shape);
    if (first < 0 || count < 0 || first + count > all) {
      throw new InputError(
        `${this.directory}: "${name}" has ${all} rows; rows ${first} to ${first + count - 1} were asked for`,
      );
    }
    if (first === 0 && count === all) return this.#decoded(name, 0, all);
    if (all * columns > wholeParameterElements) return this.#decoded(name, first, count);
    return this.#decoded(name, 0, all).subarray(first * columns, (first + count) * columns);
  }

  #decoded(name: string, first: number, count: number): Float64Array {
    const columns = columnCount(this.#located(name).entry.shape);
    return this.#recent(name, first * columns, count * columns);
  }

  /** Elements that stay decoded unless they are very many. */
  #recent(name: string, first: number, count: number): Float64Array {
    const decode = () => this.#decode(name, first, count);
    if (count * 8 > cacheLimitBytes / 4) return decode();
    return this.#cache.of(`${name} ${first} ${count}`, decode, ({ byteLength }) => byteLength);
  }

  /** Bytes are read in pieces that stay in the cache until they are decoded. */
  #decode(name: string, first: number, count: number): Float64Array {
    const { file, entry } = this.#located(name);
    const width = byteWidth(entry.dtype);
    const values = new Float64Array(count);
    const pieceElements = this.#piece.length / width;
    for (let at = 0; at < values.length; at += pieceElements) {
      const elements = Math.min(pieceElements, values.length - at);
      const bytes = this.#piece.subarray(0, elements * width);
      file.readInto(bytes, entry, (first + at) * width);
      decodeInto(bytes, entry.dtype, 0, elements, values, at);
    }
    return values;
  }

  close(): void {
    for (const file of this.#files) file.close();
  }

  #open(path: string, parameters: readonly string[] | undefined): void {
    const file = new SafetensorsFile(path);
    this.#files.push(file);
    for (const name of parameters ?? file.entries.keys()) this.#where.set(name, { file, entry: file.entry(name) });
  }

  #located(name: string) {
    const located = this.#where.get(name);
    if (!located) throw new InputError(`${this.directory}: the checkpoint has no parameter "${name}"`);
    return located;
  }
}

function rowCount(shape: readonly number[]): number {
  return shape.length < 2 ? 1 : shape[0]!;
}

function columnCount(shape: readonly number[]): number {
  return shape.slice(shape.length < 2 ? 0 : 1).reduce((product, n) => product * n, 1);
}

/** The files a model folder's weights lie in. @throws InputError as a Checkpoint does. */
export function checkpointFiles(directory: string): string[] {
  return [...shards(directory).keys()].map((name) => join(directory, name));
}

/** Weight files of a folder, each with the parameters the index expects in it; undefined for all it has. */
function shards(directory: string): Map<string, string[] | undefined> {
  if (!existsSync(directory) || !statSync(directory).isDirectory()) {
    throw new InputError(`${directory}: expected a model folder with config.json and model.safetensors`);
  }
  const indexPath = join(directory, "model.safetensors.index.json");
  if (!existsSync(indexPath)) {
    if (existsSync(join(directory, "model.safetensors"))) return new Map([["model.safetensors", undefined]]);
    throw new InputError(`${directory}: expected model.safetensors or model.safetensors.index.json, found neither`);
  }
  const index = parseJson(readText(indexPath), indexPath);
  const map = (index as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== "object" || map === null) throw new InputError(`${indexPath}: weight_map: expected an object`);
  const files = new Map<string, string[]>();
  for (const [parameter, file] of Object.entries(map)) {
    if (typeof file !== "string" || /[\\/]/.test(file) || !file.endsWith(".safetensors")) {
      throw new InputError(`${indexPath}: weight_map: expected file names ending in .safetensors inside the folder`);
    }
    const parameters = files.get(file);
    if (parameters) parameters.push(parameter);
    else files.set(file, [parameter]);
  }
  if (files.size === 0) throw new InputError(`${indexPath}: weight_map: expected at least one parameter, found none`);
  return new Map([...files].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    throw new InputError(`${path}: expected a readable file`);
  }
}
