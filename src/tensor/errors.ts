/** The input cannot be read: one sentence naming the file, the field and what was expected. Commands exit with 2. */
export class InputError extends Error {
  override name = "InputError";
}
