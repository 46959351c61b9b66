import { withMask } from "../../capture/padding.js";
import type { RunPath } from "../../capture/ranks.js";
import type { NameMap } from "../../importers/names-file.js";
import { openRecording } from "../../importers/recording.js";
import { ModelParameters } from "../../spec/formats/model-parameters.js";
import { readModelConfig } from "../../spec/models/config-file.js";
import { expectParameters } from "../../spec/models/expect-parameters.js";
import { chooseBiasPlace } from "./bias-place.js";
import { Investigation } from "./investigation.js";
import { settleChoices } from "./open-choices.js";
import { choosePrecision } from "./precision.js";
import { chooseRotary } from "./rotary-choice.js";

/** Where a recording and its model lie. */
export interface InvestigationSource {
  /** A capture directory, those of all ranks, or a plain safetensors file of module outputs. */
  readonly target: RunPath;
  /** Model folder: config.json, model.safetensors or its shards. */
  readonly model: string;
  /** [batch, tokens], 1 for a token and 0 for padding, where a plain recording lacks its own mask. */
  readonly mask?: Uint8Array | undefined;
  /** What the tensors of a recording in someone else's format are. */
  readonly names?: NameMap | undefined;
}

/** An investigation with the files it reads. */
export interface OpenInvestigation {
  readonly investigation: Investigation;
  close(): void;
}

/**
 * Opens a recording beside its checkpoint, and settles what holds for all its units: compute precision, the way
 * padded rows count their positions, and which rank adds a bias.
 * @throws InputError when the recording or the model cannot be read.
 */
export function openInvestigation({ target, model, mask, names }: InvestigationSource): OpenInvestigation {
  const { config } = readModelConfig(model);
  const checkpoint = new ModelParameters(model);
  try {
    expectParameters(config, checkpoint);
    const opened = openRecording(target, names);
    const capture = mask ? withMask(opened, mask) : opened;
    try {
      const investigation = settleChoices(
        chooseRotary(choosePrecision(chooseBiasPlace(new Investigation(capture, config, checkpoint)))),
      );
      return {
        investigation,
        close() {
          capture.close();
          checkpoint.close();
        },
      };
    } catch (error) {
      capture.close();
      throw error;
    }
  } catch (error) {
    checkpoint.close();
    throw error;
  }
}
