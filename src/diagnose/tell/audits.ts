import type { AttentionAttributes } from "../../spec/ops/attention.js";
import { catalogue } from "../causes/catalogue.js";
import type { DirectCause } from "../causes/direct-cause.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import type { Cause } from "../explain/cause.js";
import type { SeamReport } from "../records/seams.js";
import type { Audit, AuditName } from "./verdict.js";

interface AuditInput {
  readonly investigation: Investigation;
  readonly checks: readonly UnitCheck[];
  readonly causes: readonly Cause[];
  readonly seams: SeamReport;
  readonly metadata: { causes: readonly DirectCause[]; checked: readonly string[] };
}

/** The four questions of every post-mortem, answered with evidence whether or not anything is wrong. */
export function audit(input: AuditInput): Record<AuditName, Audit> {
  return { boundary: boundary(input), cache: cache(input), rotary: rotary(input), batch: batch(input) };
}

/** Causes whose units match, as one clause; undefined when there are none. */
function blamed({ causes }: AuditInput, matches: (unit: string, cause: Cause) => boolean): string | undefined {
  const found = causes.filter((cause) => !cause.latent && cause.units.some((unit) => matches(unit, cause)));
  return found.length > 0 ? found.map((cause) => `${cause.cause}: ${cause.statement}`).join("; ") : undefined;
}

/** Shapes, dtypes, strides and scale handed to attention against its contract. */
function boundary(input: AuditInput): Audit {
  const { investigation, checks } = input;
  const { observations, graph, config } = investigation;
  const fault = blamed(input, (unit) => graph.find(unit)?.op.kind === "attention");
  const operands = [...graph.nodes.values()]
    .filter((node) => node.op.kind === "attention")
    .flatMap((node) => node.inputs);
  const recorded = operands.filter(
    (name) => observations.has(name) || observations.has(graph.node(name).inputs[0] ?? ""),
  );
  const dtypes = new Set(
    recorded.map((name) => observations.dtype(name) ?? observations.dtype(graph.node(name).inputs[0]!)),
  );
  const orders = new Set(recorded.flatMap((name) => observations.denseRecords(name).map(({ axes }) => axes.order)));
  const attentions = checks.filter(({ node }) => node.op.kind === "attention");
  const a = graph.all("mixed")[0]!.op.attributes as unknown as AttentionAttributes;
  const contract = `${config.headCount} query and ${config.keyValueHeadCount} key/value heads of ${config.headDim}, scale ${a.scale.toPrecision(4)}`;
  const mixed = dtypes.size > 1 ? `; operands come in ${[...dtypes].join(" and ")}` : "";
  const shape = `${contract}; ${recorded.length} of ${operands.length} operands recorded, ${[...dtypes].join(", ") || "none"}, axis order ${[...orders].join(" and ") || "paged"}${mixed}`;
  if (fault) return { pass: false, evidence: `${fault} (${shape})` };
  const failing = attentions.filter((check) => check.excess > 1);
  return {
    pass: failing.length === 0,
    evidence: `${shape}; ${attentions.length - failing.length} of ${attentions.length} attention outputs follow from them`,
  };
}

/** Is what is read what was appended? */
function cache(input: AuditInput): Audit {
  const { seams, investigation } = input;
  const fault = blamed(input, (unit) => investigation.graph.find(unit)?.op.kind === "append");
  if (fault) return { pass: false, evidence: fault };
  const { pages, keys } = seams.compared;
  if (pages > 0)
    return {
      pass: true,
      evidence: `${keys} keys and values read from ${pages} recorded page images equal what was appended, bit for bit`,
    };
  const attentions = input.checks.filter(({ node }) => node.op.kind === "attention");
  const passed = attentions.filter((check) => check.excess <= 1).length;
  const kind =
    investigation.capture.steps.length === 1
      ? "a single prefill: no key is read back from an earlier step; "
      : "no KV pages were recorded; ";
  return {
    pass: passed === attentions.length,
    evidence: `${kind}${passed} of ${attentions.length} attention outputs follow from the keys and values just produced`,
  };
}

/** Pairing, angles and reshapes around RoPE. */
function rotary(input: AuditInput): Audit {
  const { graph, observations } = input.investigation;
  const fault = blamed(
    input,
    (unit, cause) =>
      graph.find(unit)?.op.kind === "rope" || unit === "positions" || catalogue[cause.cause].isRotary === true,
  );
  if (fault) return { pass: false, evidence: fault };
  const ropes = input.checks.filter(({ node }) => node.op.kind === "rope");
  const failing = ropes.filter((check) => check.excess > 1);
  const worst = Math.max(0, ...ropes.map(({ statistics }) => statistics.rmsZ));
  if (ropes.length === 0)
    return {
      pass: true,
      evidence:
        "no rotated query or key was recorded; attention outputs agree with the spec's rotation as far as they were recorded",
    };
  const positions = Math.max(...observations.rows.position);
  return {
    pass: failing.length === 0,
    evidence: `${ropes.length - failing.length} of ${ropes.length} recorded rotations right at positions 0 to ${positions}, rms z at most ${worst.toFixed(2)}`,
  };
}

/** Rows, lengths, page tables and gathers. */
function batch(input: AuditInput): Audit {
  const { metadata, investigation } = input;
  const fault = blamed(input, (_, cause) => cause.kind === "metadata" && !catalogue[cause.cause].isRotary);
  if (fault) return { pass: false, evidence: fault };
  const { rows } = investigation.observations;
  const sequences = new Set(rows.seqId).size;
  const what =
    metadata.checked.length > 0
      ? `${metadata.checked.join(", ")} equal what the token counts imply`
      : "no positions, lengths or page tables were recorded";
  return {
    pass: true,
    evidence: `${rows.count} rows of ${sequences} sequence${sequences > 1 ? "s" : ""} in ${rows.steps.length} step${rows.steps.length > 1 ? "s" : ""}; ${what}`,
  };
}
