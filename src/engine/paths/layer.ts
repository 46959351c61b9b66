import type { LayerWeights } from "../weights.js";
import { feedForward } from "./feed-forward.js";
import { attend } from "./layer-attention.js";
import { LayerBuilder, type LayerContext } from "./layer-builder.js";
import type { Dispatch } from "./program.js";
import { projectQueryKeyValue } from "./projection.js";

/** The dispatches of one decoder layer: `hidden` in, `hidden` out. */
export async function layerDispatches(
  context: LayerContext,
  index: number,
  weights: LayerWeights,
): Promise<Dispatch[]> {
  const layer = new LayerBuilder(context, index, weights);
  await projectQueryKeyValue(layer);
  await attend(layer);
  await feedForward(layer);
  return layer.dispatches;
}
