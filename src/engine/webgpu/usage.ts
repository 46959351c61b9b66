/** WebGPU's numeric flags: TypeScript's DOM types have no values for them, and Node has no such globals. */
export const BufferUsage = {
  mapRead: 0x1,
  mapWrite: 0x2,
  copySource: 0x4,
  copyDestination: 0x8,
  uniform: 0x40,
  storage: 0x80,
  queryResolve: 0x200,
} as const;

export const mapForReading = 0x1;
export const computeStage = 0x4;
