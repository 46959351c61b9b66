import { attentionParameters } from "../device/attention-call.js";

/** Fields that many kernels are given. */
export const header = { header: "const BatchHeader*" } as const;
export const batch = { ...header, batch: "const int*" } as const;
export const addressed = { addressing: attentionParameters, ...batch } as const;
