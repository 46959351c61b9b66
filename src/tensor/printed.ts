import { z } from "zod";

/** A type as JSON has it: nothing in it is read-only. */
type Plain<T> = T extends (...words: never[]) => unknown
  ? never
  : T extends object
    ? { -readonly [K in keyof T]: Plain<T[K]> }
    : T;

type ReadOnly<T> = T extends object ? { readonly [K in keyof T]: ReadOnly<T[K]> } : T;

/** What a schema describes, to be printed. */
export type Printed<Schema extends z.ZodType> = ReadOnly<z.input<Schema>>;

/** A number as JSON has it: null where it is not finite. */
export const measured = z.number().nullable();

/** A count, a size or a number of something. */
export const whole = z.int().nonnegative();

/**
 * Says that a schema describes how a type is printed: a type error where the schema asks for what the type does not have.
 * Tests hold the other direction, that nothing is printed of which the schema does not know.
 */
export function printed<T>() {
  return <Schema extends z.ZodType>(schema: Plain<T> extends z.input<Schema> ? Schema : never): Schema => schema;
}
