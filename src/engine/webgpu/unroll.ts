/**
 * Unrolls the loops that kernels mark with a comment, `for (var i = 0u; i < COUNT; i++) { // unroll`, once their constants
 * are known: the body is repeated with `const i` in front. Drivers do not always do it themselves, and an array whose
 * index is not constant lives in slow memory: this made tensor-core tiles four times as fast on an NVIDIA H200.
 * @throws Error when a marked loop's count is not a constant.
 */
export function unroll(code: string): string {
  const expressions = new Map<string, string>();
  for (const [, name, expression] of code.matchAll(/\bconst (\w+): (?:u32|bool|i32|f32) = ([^;]+);/g)) {
    expressions.set(name!, expression!);
  }
  const constantOf = (name: string): number | undefined => {
    const expression = expressions.get(name);
    return expression === undefined ? undefined : evaluate(expression, constantOf);
  };
  const repeat = ({ variable, bound }: Loop, body: string) => {
    const count = evaluate(bound, constantOf);
    if (count === undefined) throw new Error(`cannot unroll a loop of ${bound}`);
    const copies = Array.from({ length: count }, (_, i) => `{ const ${variable} = ${i}u;${body}}`);
    return copies.join("\n");
  };
  return replaceLoops(code, repeat);
}

/** Leaves marked loops as they are: what is constant in an unrolled body becomes a value of each round. */
export function keepLoops(code: string): string {
  return replaceLoops(code, ({ head }, body) => `${head}${body.replace(/(^|[;{}]|\n)(\s*)const /g, "$1$2let ")}}`);
}

interface Loop {
  /** The text up to the body, the marker included. */
  readonly head: string;
  readonly variable: string;
  readonly bound: string;
}

const marker = /for\s*\(var (\w+) = 0u; \1 < ([^;]+); \1\+\+\)\s*\{\s*\/\/ unroll\b/g;

/** Puts `replacement` in the place of every marked loop, innermost first. */
function replaceLoops(code: string, replacement: (loop: Loop, body: string) => string): string {
  let out = "";
  let at = 0;
  for (const match of code.matchAll(marker)) {
    // Loops inside one that has been replaced already.
    if (match.index < at) continue;
    const start = match.index + match[0].length;
    const end = closingBrace(code, start);
    const body = replaceLoops(code.slice(start, end), replacement);
    out += code.slice(at, match.index) + replacement({ head: match[0], variable: match[1]!, bound: match[2]! }, body);
    at = end + 1;
  }
  return out + code.slice(at);
}

/** Where the block ends whose text begins at `from`. */
function closingBrace(code: string, from: number): number {
  let depth = 1;
  for (let at = from; at < code.length; at++) {
    if (code.startsWith("//", at)) at = code.indexOf("\n", at);
    else if (code[at] === "{") depth++;
    else if (code[at] === "}" && --depth === 0) return at;
    if (at < 0) break;
  }
  throw new Error("a marked loop does not end");
}

const functions: Record<string, (values: number[]) => number> = {
  u32: ([x]) => x!,
  min: (values) => Math.min(...values),
  max: (values) => Math.max(...values),
  select: ([no, yes, condition]) => (condition ? yes! : no!),
};

/** Value of a constant whole-number expression; undefined when it holds anything else. */
function evaluate(expression: string, constantOf: (name: string) => number | undefined): number | undefined {
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
    return constantOf(token) ?? Number.NaN;
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
