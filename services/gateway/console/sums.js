// Figures of all verifiers together.

const COUNTED_S = 10; // verifiers' counters are sums over so many seconds

/** The sum of a figure over verifiers; null where none tells it. */
export function total(verifiers, name) {
  const known = verifiers.map((one) => one[name]).filter((value) => typeof value === "number");
  return known.length ? known.reduce((sum, value) => sum + value, 0) : null;
}

/** A counter of all verifiers as a rate; null where none tells it. */
export function perSecond(verifiers, name) {
  const sum = total(verifiers, name);
  return sum === null ? null : sum / COUNTED_S;
}
