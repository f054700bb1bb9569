// Numbers for people. An unknown value is a dash.

export const NONE = "–";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** With at most `digits` decimals and separated thousands. */
export function number(value, digits = 0) {
  if (!isNumber(value)) return NONE;
  return value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: 0 });
}

/** Milliseconds, with a decimal below a hundred; seconds from two thousand on. */
export function ms(value) {
  if (!isNumber(value)) return NONE;
  if (Math.abs(value) >= 2_000) return `${number(value / 1000, 1)} s`;
  return `${value.toFixed(Math.abs(value) < 100 ? 1 : 0)} ms`;
}

/** A share of one as per cent. */
export function percent(share, digits = 1) {
  return isNumber(share) ? `${(share * 100).toFixed(digits)} %` : NONE;
}

/** A probability in whole per cent, down to "less than one". */
export function chance(share) {
  return share < 0.005 ? "<1 %" : percent(share, 0);
}

/** Bytes in binary units. */
export function bytes(value) {
  if (!isNumber(value)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let left = value;
  let unit = 0;
  while (left >= 1024 && unit < units.length - 1) {
    left /= 1024;
    unit += 1;
  }
  return `${left.toFixed(left < 10 && unit ? 1 : 0)} ${units[unit]}`;
}

/** A span of seconds in its two largest units. */
export function span(seconds) {
  if (!isNumber(seconds)) return NONE;
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60 ? `${s % 60} s` : ""}`.trim();
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** One thing or several: `plural(2, "verifier")`. */
export function plural(count, noun) {
  return `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** The first and last characters of an id. */
export function shortId(id) {
  return id.length > 12 ? `${id.slice(0, 6)}…${id.slice(-4)}` : id;
}

/** A token's text on one line, with blanks that can be seen. */
export function visible(text) {
  const marks = { "\n": "⏎", "\t": "⇥", "\r": "␍", " ": "·" };
  const shown = text.replace(/[\n\t\r ]/g, (blank) => marks[blank]);
  return shown === "" ? "∅" : shown;
}

/** A mode as people call it. */
export function modeName(mode) {
  const names = { speculative: "Speculating", full_verification: "Full verification", auto: "Automatic" };
  return names[mode] ?? mode ?? NONE;
}
