// Rows of the usage table: sums over a period, and their cells.

import { NONE, number, percent } from "./format.js";

const COUNTS = [
  "requests",
  "prompt_tokens",
  "cached_tokens",
  "output_tokens",
  "drafted_tokens",
  "accepted_tokens",
  "steps",
];
const SUMS = [...COUNTS, "met", "missed"];

/** Headings, in the order of the cells. */
export const COLUMNS = [
  "Tenant",
  "Class",
  "Requests",
  "Prompt tokens",
  "Of these cached",
  "Output tokens",
  "Drafted",
  "Accepted",
  "Target steps",
  "Met",
];

/** One row for each tenant and class, those with the most output first. */
export function summed(rows) {
  const found = new Map();
  for (const { tenant, class: name, ...counts } of rows) {
    const key = JSON.stringify([tenant, name]);
    const sum = found.get(key) ?? { tenant, class: name, ...Object.fromEntries(SUMS.map((count) => [count, 0])) };
    for (const count of SUMS) sum[count] += counts[count];
    found.set(key, sum);
  }
  return [...found.values()].sort((a, b) => b.output_tokens - a.output_tokens);
}

/** Texts for `COLUMNS`. */
export function cellsOf(one) {
  const told = one.met + one.missed;
  return [
    one.tenant,
    one.class,
    ...COUNTS.map((name) => number(one[name])),
    told ? percent(one.met / told) : NONE,
  ];
}

/** When a row's hour or day began. */
export function startOf(one, by) {
  return by === "hour" ? one.start.slice(0, 16).replace("T", " ") : one.start.slice(0, 10);
}
