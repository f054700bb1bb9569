// What an iteration comes to, in names and words.

import { modeName, ms, NONE, number, plural } from "./format.js";

/** How many of its drafted tokens were accepted. */
export function acceptedIn(one) {
  return one.nodes.filter((node) => node.accepted).length;
}

/** The one that shows most: the first with the most accepted tokens. */
export function bestOf(all) {
  return all.reduce((found, one, i) => (acceptedIn(one) > acceptedIn(all[found]) ? i : found), 0);
}

/** One line for a bar of the strip. */
export function summaryOf(one, index) {
  return `Iteration ${index + 1}: ${one.nodes.length} drafted, ${acceptedIn(one)} accepted, ${ms(one.verify_ms)}`;
}

/** @returns {[string, string][]} names and what they are */
export function factsOf(one) {
  const chosen = (phase) => one.nodes.filter((node) => node.phase === phase).length;
  const given = `${acceptedIn(one)} accepted${one.own ? " + 1 own" : ""}`;
  const tree = [
    ["Needed for the target", one.need === null ? NONE : `${number(one.need, 2)} tokens`],
    ["Chosen", `${chosen("slo")} for the SLO, ${chosen("throughput")} for throughput`],
    ["Budget", `${number(one.budget)} tokens, ${plural(one.rows, "row")}`],
    ["Tree", `${one.depth} deep, ${one.width} wide`],
    ["Draft, select", `${ms(one.draft_ms)}, ${ms(one.select_ms)}`],
    ["Verify, predicted", `${ms(one.verify_ms)}, ${ms(one.predicted_ms)}`],
  ];
  return [
    ["Mode", modeName(one.mode)],
    ["Tokens given", given],
    ...(one.depth ? tree : [["Verify", ms(one.verify_ms)]]),
    ["TPOT so far", one.tpot_target_ms ? `${ms(one.tpot_ms)} of ${ms(one.tpot_target_ms)}` : ms(one.tpot_ms)],
    ["Position", number(one.position)],
  ];
}
