import type { Proof } from "../diagnose/prove/proof.js";
import type { Verdict } from "../diagnose/tell/verdict.js";
import { quoted } from "./visible-text.js";

/** The whole proof: a sentence each. */
export function proofWords(diagnosis: Verdict): string[] {
  const { proof, causes } = diagnosis;
  const tokens = tokenProofWords(diagnosis);
  const repair = repairWords(proof);
  return [
    ...unitProofWords(diagnosis),
    ...(tokens ? [`run again from its tokens with them: ${tokens}`] : []),
    ...(repair ? [`${causes.length > 0 ? "all of them removed" : "the model"}: ${repair}`] : []),
    ...proof.notes.map((note) => `note: ${note}`),
  ];
}

/** With the causes in the spec, and without each of them: a sentence each. */
function unitProofWords({ proof, causes }: Verdict): string[] {
  const { reproduced, necessity } = proof;
  const all = ["the spec as it is", "the cause in the spec"][causes.length] ?? "all causes in the spec";
  return [
    `${all}: ${reproduced.matched} of ${reproduced.of} units match what was recorded`,
    ...necessity.map(
      ({ without, matched }) => `without ${without + 1} (${causes[without]!.cause}): ${matched} of ${reproduced.of}`,
    ),
  ];
}

/** The run again from its tokens, with the causes; undefined where it was left out, or nothing is wrong. */
export function tokenProofWords({ proof: { fromTokens }, verdict }: Verdict): string | undefined {
  if (!fromTokens || verdict === "clean") return undefined;
  const { layers, reproducedToken, recordedToken, text } = fromTokens;
  const same = reproducedToken === recordedToken ? "the recorded token" : `not the recorded ${recordedToken}`;
  const token = text === null ? `token ${reproducedToken}` : `token ${reproducedToken} ${quoted(text)}`;
  return `${layers.matched} of ${layers.of} layer outputs show the recorded magnitude, ${token}, ${same}`;
}

/** What the model says without the causes: "token 3072 " precisely"". */
export function repairWords({ repair }: Proof): string | undefined {
  if (!repair) return undefined;
  const said = repair.continuation ?? repair.text;
  return `token ${repair.tokenId}${said === null ? "" : ` ${quoted(said)}`}`;
}
