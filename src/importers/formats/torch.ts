import { statSync } from "node:fs";
import type { TensorSource } from "../../capture/capture.js";
import { byteWidth, type DType, isDType } from "../../tensor/dtype.js";
import { InputError } from "../../tensor/errors.js";
import { Archive, type Member } from "../archive.js";
import type { DumpFormat, DumpTensor } from "../dump.js";
import { type Pickled, PickledName, type PickleWords, readPickle } from "../pickle.js";
import { HeldFile } from "../stored-file.js";

const maxPickleBytes = 2 ** 26;
const maxDimensions = 8;
const maxNested = 32;
const maxTensors = 2 ** 20;

/** Bytes that tensors are views of. */
interface Storage {
  readonly key: string;
  readonly source: TensorSource;
  /** Of a storage that is typed; undefined for plain bytes. */
  readonly dtype: DType | undefined;
}

/** A tensor as torch rebuilds it: a view of a storage. */
export class StoredTensor {
  constructor(
    readonly storage: Storage,
    readonly dtype: DType,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
    readonly first: number,
  ) {}
}

const storageTypes: Record<string, DType> = {
  "torch.DoubleStorage": "float64",
  "torch.FloatStorage": "float32",
  "torch.HalfStorage": "float16",
  "torch.BFloat16Storage": "bfloat16",
  "torch.LongStorage": "int64",
  "torch.IntStorage": "int32",
  "torch.ShortStorage": "int16",
  "torch.CharStorage": "int8",
  "torch.ByteStorage": "uint8",
  "torch.BoolStorage": "bool",
};
const untyped = ["torch.UntypedStorage", "torch.storage.UntypedStorage"];

/**
 * What one file that torch.save wrote holds. Its pickle is read as data: tensors, dictionaries, lists, numbers and text.
 * https://github.com/pytorch/pytorch/blob/main/torch/serialization.py
 * @throws InputError when it is no such file, or holds anything else.
 */
export function readTorchFile(path: string): Pickled {
  const archive = new Archive(path, "a file that torch.save wrote");
  const pickles = [...archive.members.values()].filter(({ name }) => /^[^/]+\/data\.pkl$/.test(name));
  const [pickle] = pickles;
  if (!pickle || pickles.length > 1)
    throw new InputError(`${path}: expected one data.pkl in a file that torch.save wrote, found ${pickles.length}`);
  const root = pickle.name.slice(0, -"data.pkl".length);
  const order = archive.members.get(`${root}byteorder`);
  if (order && Buffer.from(archive.bytes(order, 16)).toString("latin1") !== "little")
    throw new InputError(`${path}: byteorder: expected little`);
  return readPickle(archive.bytes(pickle, maxPickleBytes), `${path}: data.pkl`, torchWords(archive, root));
}

function torchWords(archive: Archive, root: string): PickleWords {
  const where = `${archive.path}: data.pkl`;
  const storages = new Map<string, Storage>();
  const dtypesOfTorch = [
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
  ];
  const constants = new Set([
    ...Object.keys(storageTypes),
    ...untyped,
    ...dtypesOfTorch.map((name) => `torch.${name}`),
    ...["torch.float8_e4m3fn", "torch.float8_e5m2"],
  ]);
  const tensor = (args: readonly Pickled[], dtype?: Pickled): StoredTensor => {
    const [storage, first, shape, strides] = args;
    const given = dtype instanceof PickledName ? dtype.name.slice("torch.".length) : (storage as Storage | null)?.dtype;
    if (!isStorage(storage) || !given || !isDType(given))
      throw new InputError(`${where}: expected a tensor over a storage of a known type`);
    return checked(
      new StoredTensor(storage, given, counts(shape, where), counts(strides, where), Number(first)),
      where,
    );
  };
  const rebuild = new Map<string, (args: readonly Pickled[]) => Pickled>([
    ["torch._utils._rebuild_tensor", (args) => tensor(args)],
    ["torch._utils._rebuild_tensor_v2", (args) => tensor(args)],
    ["torch._utils._rebuild_tensor_v3", (args) => tensor(args, args[6])],
    ["torch._utils._rebuild_parameter", ([data]) => data ?? null],
    ["torch._utils._rebuild_parameter_with_state", ([data]) => data ?? null],
    ["collections.OrderedDict", ([pairs]) => new Map(Array.isArray(pairs) ? pairs : [])],
    ["torch.Size", ([sizes]) => (Array.isArray(sizes) ? sizes : [])],
    ["torch.device", ([type]) => type ?? null],
  ]);
  const persistent = (id: Pickled): Storage => {
    const [kind, type, key] = Array.isArray(id) ? id : [];
    const name = type instanceof PickledName ? type.name : undefined;
    if (
      kind !== "storage" ||
      typeof key !== "string" ||
      name === undefined ||
      !(name in storageTypes || untyped.includes(name))
    )
      throw new InputError(`${where}: expected storages of tensors outside of the pickle, found something else`);
    const known = storages.get(key);
    if (known) return known;
    const member = archive.members.get(`${root}data/${key}`);
    if (!member) throw new InputError(`${where}: expected storage "${key.slice(0, 100)}" in the archive, found none`);
    const dtype = Object.hasOwn(storageTypes, name) ? storageTypes[name] : undefined;
    const storage = { key, dtype, source: sourceOf(archive, member, dtype ?? "uint8") };
    storages.set(key, storage);
    return storage;
  };
  return { constants, rebuild, persistent };
}

/** The bytes of a member where they lie, or unpacked where they are compressed. */
export function sourceOf(archive: Archive, member: Member, dtype: DType): TensorSource {
  const shape = [Math.floor(member.size / byteWidth(dtype))];
  const entry = { name: member.name, dtype, shape, start: member.start, byteLength: member.size };
  if (member.stored) return { file: archive.file, entry };
  return { file: new HeldFile(archive.path, archive.bytes(member)), entry: { ...entry, start: 0 } };
}

function isStorage(value: Pickled | undefined): value is Storage {
  return typeof value === "object" && value !== null && "source" in value && "key" in value;
}

function counts(value: Pickled | undefined, where: string): number[] {
  const fits = Array.isArray(value) && value.length <= maxDimensions;
  if (!fits || !value.every((n) => typeof n === "number" && Number.isSafeInteger(n) && n >= 0))
    throw new InputError(`${where}: expected a tensor's sizes and strides as up to ${maxDimensions} whole numbers`);
  return value as number[];
}

function checked(tensor: StoredTensor, where: string): StoredTensor {
  const { storage, dtype, shape, strides, first } = tensor;
  const available = Math.floor(storage.source.entry.byteLength / byteWidth(dtype));
  const last = shape.reduce((sum, n, k) => sum + Math.max(0, n - 1) * (strides[k] ?? Number.NaN), first);
  const empty = shape.includes(0);
  if (shape.length !== strides.length || !Number.isSafeInteger(first) || first < 0 || !(empty || last < available))
    throw new InputError(
      `${where}: expected a tensor within its storage "${storage.key}" of ${available} elements, found one that reaches element ${last}`,
    );
  return tensor;
}

/** Tensors of nested containers by their keys, joined by dots. */
export function tensorsWithin(value: Pickled, where: string): Map<string, StoredTensor> {
  const found = new Map<string, StoredTensor>();
  const within = new Set<Pickled>();
  const walk = (inner: Pickled, name: string, depth: number): void => {
    if (inner instanceof StoredTensor) {
      if (found.size >= maxTensors) throw new InputError(`${where}: expected at most ${maxTensors} tensors`);
      if (found.has(name)) throw new InputError(`${where}: expected one tensor "${name}", found two`);
      found.set(name, inner);
      return;
    }
    const items = inner instanceof Map ? [...inner] : Array.isArray(inner) ? [...inner.entries()] : [];
    if (items.length === 0) return;
    // A container that is met again, within itself or beside itself, was told already.
    if (within.has(inner)) return;
    within.add(inner);
    if (depth >= maxNested) throw new InputError(`${where}: expected containers nested at most ${maxNested} deep`);
    for (const [key, item] of items) {
      const simple = typeof key === "string" || typeof key === "number";
      if (simple) walk(item as Pickled, name === "" ? String(key) : `${name}.${key}`, depth + 1);
    }
  };
  walk(value, "", 0);
  return found;
}

/** A tensor of a torch file as one of a dump. */
export function dumpTensor(tensor: StoredTensor, name: string, step: number, home: string): DumpTensor {
  const { storage, dtype, shape, strides, first } = tensor;
  return { name, step, dtype, shape, strides, first, storage: `${home}${storage.key}`, source: storage.source };
}

/** A file that torch.save wrote: tensors in dictionaries and lists, one forward pass. */
export const torchFile: DumpFormat = {
  id: "torch",
  title: "a file of torch.save",
  claims: (path) => /\.(pt|pth|bin)$/.test(path) && (statSync(path, { throwIfNoEntry: false })?.isFile() ?? false),
  open(path) {
    const found = tensorsWithin(readTorchFile(path), path);
    const tensors = [...found].map(([name, tensor]) => dumpTensor(tensor, name === "" ? "tensor" : name, 0, ""));
    return { path, format: this.title, tensors, skipped: [], ordered: true };
  },
};
