/** The sixteen numbers of e2m1, by their codes. OCP Microscaling Formats, 2023. */
export const e2m1: Float64Array = Float64Array.of(
  ...[0, 0.5, 1, 1.5, 2, 3, 4, 6],
  ...[-0, -0.5, -1, -1.5, -2, -3, -4, -6],
);
