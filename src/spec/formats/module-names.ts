import { createContext, Script } from "node:vm";
import { InputError } from "../../tensor/errors.js";

/** What a list of module names may take to be compared with one name: configs are written by strangers. */
const milliseconds = 500;
const marker = "re:";

const sandbox = createContext({ pattern: "", name: "" });
const comparison = new Script("new RegExp('^(?:' + pattern + ')').test(name)");

/**
 * Whether an entry of a list such as `ignore` or `targets` means a module: its name, or after `re:` a regular expression
 * for the beginning of names, as Python's `re.match` has it.
 * @param field file and field of the list, for errors.
 * @throws InputError when it is no regular expression, or takes forever.
 */
export function matchesModule(entry: string, module: string, field: string): boolean {
  if (!entry.startsWith(marker)) return entry === module;
  sandbox.pattern = entry.slice(marker.length);
  sandbox.name = module;
  try {
    return comparison.runInContext(sandbox, { timeout: milliseconds }) as boolean;
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === "ERR_SCRIPT_EXECUTION_TIMEOUT" ? " that ends" : "";
    throw new InputError(`${field}: expected a regular expression${why} after "re:", found "${entry.slice(0, 200)}"`);
  }
}
