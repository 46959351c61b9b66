import type { Investigation, UnitCheck } from "../diagnose/check/investigation.js";
import { differingReplicas } from "../diagnose/check/rank-views.js";
import type { JudgedRun } from "../diagnose/reference/judged-run.js";
import type { UnitRecipe } from "../spec/recipe.js";
import { InputError } from "../tensor/errors.js";
import { chosenElements } from "./chosen-elements.js";
import { criterionFor } from "./criterion.js";
import { hostCase } from "./host-case.js";
import { caseRow, Reads } from "./reads.js";
import { seamCase } from "./seam-case.js";
import type { CaseOp, UnitCase } from "./unit-case.js";

/** What is needed of a judged run. */
export interface Accused extends Pick<JudgedRun, "investigation" | "checks" | "causes"> {
  readonly verdict: Pick<JudgedRun["verdict"], "causes" | "findings">;
}

/**
 * One failing unit of a judged run, alone.
 * @param name unit, value or what the host made, as the verdict names it; the first that the verdict accuses unless given.
 * @throws InputError when nothing fails there, or what it reads is too much to copy.
 */
export function makeCase(run: Accused, name = accused(run)): UnitCase {
  const { investigation } = run;
  const path = investigation.capture.path;
  if (name === undefined) throw new InputError(`${path}: expected a run with a failing unit, none fails in this one`);
  const statement = statementOf(run, name);
  const check = run.checks.find(({ node }) => node.name === name);
  const found =
    (check && computedCase(run, check, statement)) ??
    (investigation.graph.find(name)
      ? seamCase(investigation, name, statement)
      : hostCase(investigation, name, statement));
  if (found) return found;
  if (differingReplicas(investigation).some((replica) => replica.name === name))
    throw new InputError(
      `${path}: --unit ${name}: expected a unit that computes something wrong; here the copies of several ranks differ, which no unit alone shows`,
    );
  if (check)
    throw new InputError(
      `${path}: --unit ${name}: expected a unit that fails, this one follows from its own inputs to within rounding`,
    );
  const failing = run.verdict.findings.map(({ unit }) => unit);
  throw new InputError(
    `${path}: --unit ${name}: expected a recorded unit that fails${failing.length > 0 ? `, such as ${failing.slice(0, 4).join(", ")}` : "; none does"}`,
  );
}

/** What the verdict accuses first: of its first cause, else its first finding. */
function accused({ verdict }: Accused): string | undefined {
  return verdict.causes.find(({ latent }) => !latent)?.units[0] ?? verdict.findings[0]?.unit;
}

function statementOf({ verdict }: Accused, name: string): string {
  const causes = verdict.causes.filter(({ units }) => units.includes(name));
  if (causes.length > 0) return causes.map(({ cause, statement }) => `${cause}: ${statement}`).join("; ");
  return `${name} does not follow from its own inputs, and nothing in the catalogue explains it`;
}

/** A unit that was computed wrongly; undefined when its record is right. */
function computedCase(run: Accused, check: UnitCheck, statement: string): UnitCase | undefined {
  const { investigation } = run;
  const { name } = check.node;
  const sample = chosenElements(investigation, check);
  const observed = investigation.observed(name, sample.rows, sample.columns);
  const criterion = criterionFor(investigation, name, sample, observed, recipesOf(run, check));
  if (!criterion) return undefined;
  const reads = new Reads(investigation, name, sample.rows, sample.columns);
  if (!reads.isWhole)
    throw new InputError(
      `${investigation.capture.path}: --unit ${name}: expected a unit that reads few enough numbers to be copied; choose one nearer to its inputs, or record what lies between`,
    );
  return {
    unit: name,
    statement,
    dtype: investigation.observations.dtype(name)!,
    rows: [...sample.rows].map((row) => caseRow(investigation, row)),
    columns: [...sample.columns],
    ops: opsOf(investigation, name),
    inputs: reads.inputs(),
    parameters: reads.parameters(),
    criterion,
    observed,
  };
}

/** How the unit rounds: as the cause that explains it found, as its siblings do, as comes nearest. */
export function recipesOf({ causes, investigation }: Accused, { node, recipe }: UnitCheck): UnitRecipe[] {
  const explained = causes.flatMap(({ hypotheses }) => hypotheses.flatMap((h) => h.recipes?.get(node.name) ?? []));
  const [usual] = investigation.recipesFor(node.name);
  return [...new Set([...explained, ...(usual ? [usual] : []), ...(recipe ? [recipe] : [])])];
}

/** The unit's ops in order of execution. */
function opsOf(investigation: Investigation, name: string): CaseOp[] {
  const interior = new Set(investigation.interior(name).map((node) => node.name));
  return [...investigation.graph.nodes.values()]
    .filter((node) => interior.has(node.name))
    .map(({ name: value, op, inputs }) => ({ value, op: op.kind, inputs, attributes: op.attributes }));
}
