/**
 * Unrolls the loops that kernels mark with a comment, `for (var i = 0u; i < COUNT; i++) { // unroll`, once their constants
 * are known: the body is repeated with `const i` in front. Drivers do not always do it themselves, and an array whose
 * index is not constant lives in slow memory: this made tensor-core tiles four times as fast on an NVIDIA H200.
 */
export function unroll(code: string): string {
  const constants = new Map<string, number>();
  for (const [, name, expression] of code.matchAll(/^const (\w+): (?:u32|bool|i32|f32) = ([^;]+);/gm)) {
    const value = evaluate(expression!, constants);
    if (value !== undefined) constants.set(name!, value);
  }
  const lines = code.split("\n");
  return expand(lines, constants).join("\n");
}

const marker = /^(\s*)for \(var (\w+) = 0u; \2 < ([^;]+); \2\+\+\) \{ \/\/ unroll$/;

function expand(lines: readonly string[], constants: ReadonlyMap<string, number>): string[] {
  const out: string[] = [];
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at]!;
    const match = marker.exec(line);
    if (!match) {
      out.push(line);
      continue;
    }
    const [, indent, variable, bound] = match;
    const end = lines.findIndex((text, i) => i > at && text === `${indent}}`);
    const count = evaluate(bound!, constants);
    if (count === undefined || end < 0) throw new Error(`cannot unroll "${line.trim()}"`);
    const body = expand(lines.slice(at + 1, end), constants);
    for (let i = 0; i < count; i++)
      out.push(`${indent}{`, `${indent}  const ${variable} = ${i}u;`, ...body, `${indent}}`);
    at = end;
  }
  return out;
}

/** Leaves marked loops as they are: what is constant in an unrolled body becomes a value of each round. */
export function keepLoops(code: string): string {
  const ends: string[] = [];
  const lines = code.split("\n").map((line) => {
    if (line === ends.at(-1)) ends.pop();
    const indent = marker.exec(line)?.[1];
    if (indent !== undefined) ends.push(`${indent}}`);
    return ends.length > 0 ? line.replace(/^(\s*)const /, "$1let ") : line;
  });
  return lines.join("\n");
}

const functions: Record<string, (values: number[]) => number> = {
  u32: ([x]) => x!,
  min: (values) => Math.min(...values),
  max: (values) => Math.max(...values),
  select: ([no, yes, condition]) => (condition ? yes! : no!),
};

/** Value of a constant whole-number expression; undefined when it holds anything else. */
function evaluate(expression: string, constants: ReadonlyMap<string, number>): number | undefined {
  const tokens = expression.match(/\d+(?:\.\d+)?[uif]?|\w+|\S/g) ?? [];
  let at = 0;
  const primary = (): number => {
    const token = tokens[at++];
    if (token === undefined) return Number.NaN;
    if (token === "(") {
      const value = sum();
      at++;
      return value;
    }
    if (/^\d/.test(token)) return Number.parseFloat(token);
    if (token === "true" || token === "false") return token === "true" ? 1 : 0;
    const call = functions[token];
    if (call && tokens[at] === "(") {
      const values: number[] = [];
      do {
        at++;
        values.push(sum());
      } while (tokens[at] === ",");
      at++;
      return call(values);
    }
    return constants.get(token) ?? Number.NaN;
  };
  const product = (): number => {
    let value = primary();
    while (tokens[at] === "*" || tokens[at] === "/" || tokens[at] === "%") {
      const operator = tokens[at++];
      const right = primary();
      value = operator === "*" ? value * right : operator === "/" ? Math.trunc(value / right) : value % right;
    }
    return value;
  };
  const sum = (): number => {
    let value = product();
    while (tokens[at] === "+" || tokens[at] === "-") value += tokens[at++] === "+" ? product() : -product();
    return value;
  };
  const value = sum();
  return Number.isInteger(value) && at >= tokens.length ? value : undefined;
}
