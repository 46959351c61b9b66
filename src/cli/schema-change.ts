import type { JsonSchema } from "./outputs.js";

/**
 * What a new schema of an output takes back of a published one, as one sentence each: fields that are gone or no longer
 * certain, types, words or forms that were not possible before. Fields and descriptions may be added.
 */
export function takenBack(before: JsonSchema, now: JsonSchema, place = "output"): string[] {
  const forms = (schema: JsonSchema) => (schema.anyOf ?? schema.oneOf) as JsonSchema[] | undefined;
  const [olds, news] = [forms(before), forms(now)];
  if (olds || news) {
    const [were, are] = [olds ?? [before], news ?? [now]];
    // A reader knows the old forms: each new one has to be one of them.
    return are.flatMap((form, i) => {
      const nearest = were.map((old) => takenBack(old, form, place)).sort((a, b) => a.length - b.length)[0]!;
      return nearest.length === 0 ? [] : [`${place}: form ${i + 1} is new: ${nearest[0]}`];
    });
  }
  return [...words(before, now, place), ...fields(before, now, place), ...items(before, now, place)];
}

function words(before: JsonSchema, now: JsonSchema, place: string): string[] {
  const types = [before.type].flat();
  const added = before.type === undefined ? [] : [now.type].flat().filter((type) => !types.includes(type));
  const isWhole = added.length === 1 && added[0] === "integer" && types.includes("number");
  const known = valuesOf(before);
  const fresh = known ? (valuesOf(now) ?? ["anything"]).filter((value) => !known.includes(value)) : [];
  return [
    ...(added.length > 0 && !isWhole ? [`${place}: was ${types.join(" or ")}, is ${added.join(" or ")}`] : []),
    ...fresh.map((value) => `${place}: ${JSON.stringify(value)} was not possible`),
  ];
}

function valuesOf(schema: JsonSchema): unknown[] | undefined {
  return "const" in schema ? [schema.const] : (schema.enum as unknown[] | undefined);
}

function fields(before: JsonSchema, now: JsonSchema, place: string): string[] {
  const [were, are] = [before, now].map(({ properties }) => (properties ?? {}) as Record<string, JsonSchema>);
  const [needed, needs] = [before, now].map(({ required }) => (required ?? []) as string[]);
  return Object.entries(were!).flatMap(([name, field]) => {
    const inside = `${place}.${name}`;
    if (!are![name]) return [`${inside}: is gone`];
    const unsure =
      needed!.includes(name) && !needs!.includes(name) ? [`${inside}: was always there, is not any more`] : [];
    return [...unsure, ...takenBack(field, are![name], inside)];
  });
}

function items(before: JsonSchema, now: JsonSchema, place: string): string[] {
  return ["items", "additionalProperties"].flatMap((key) => {
    const [was, is] = [before[key], now[key]];
    if (typeof was !== "object" || was === null) return [];
    return takenBack(was as JsonSchema, (is ?? {}) as JsonSchema, `${place}[]`);
  });
}
