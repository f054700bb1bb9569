// Is everything all right? What a snapshot says, in words, worst first.
// Of promises it knows what this gateway has seen.

import { bytes, modeName, ms, number, percent, span } from "./format.js";

const REDIS_FULL = 0.95;
const REDIS_BUSY = 0.8;
const OLD_QUEUE_S = 5;
const DRIFT = 0.1; // calibration error; as of `adaserve doctor` and the alert AdaServeCalibrationOff
const ENOUGH = 20; // requests with a target; fewer are no evidence, as for the alerts

/** Why a verifier decodes as it does; words of the server that are not known here are shown as they are. */
const REASONS = {
  "": "",
  operator: "an operator has ordered it",
  no_drafter: "no drafter is alive",
  ring_deadline: "drafts come too late",
  acceptance_collapse: "hardly any draft is accepted",
  calibration_drift: "the draft no longer matches the target",
  latency_prediction: "step times cannot be predicted",
};

/** @param {string|null} reason */
export function reasonText(reason) {
  return REASONS[reason ?? ""] ?? reason.replaceAll("_", " ");
}

/** Why a verifier decodes as it does; one that speculates all the same drafts two levels deep, on trial. */
export function whyText(mode, reason) {
  const text = reasonText(reason);
  return text && mode === "speculative" ? `on trial: ${text}` : text;
}

/**
 * @typedef {{level: "bad"|"warn"|"ok", text: string}} Finding
 * @param {Object} snapshot of /admin/live
 * @returns {{level: "bad"|"warn"|"ok"|"idle", title: string, findings: Finding[]}} idle: nothing to say
 */
export function verdict(snapshot) {
  const findings = [
    ...members(snapshot),
    ...promises(snapshot.classes),
    ...snapshot.verifiers.flatMap(verifier),
    ...queues(snapshot.queue.tiers),
    ...redis(snapshot.redis),
  ].sort((a, b) => (a.level === b.level ? 0 : a.level === "bad" ? -1 : 1));
  if (!findings.length) return { ...whenNothingIsWrong(snapshot.classes), findings };
  return { level: findings[0].level, title: titles(findings), findings };
}

function whenNothingIsWrong(classes) {
  const promised = classes.filter((one) => one.objective !== null);
  if (!promised.some((one) => one.requests)) return { level: "idle", title: "Nothing to report" };
  if (!promised.every((one) => standing(one) === "ok")) return { level: "idle", title: "Too few requests to say" };
  return { level: "ok", title: "Every objective is met at this gateway" };
}

function titles(findings) {
  const wrong = findings.filter((finding) => finding.level === "bad").length;
  const more = findings.length - wrong;
  if (!wrong) return more === 1 ? "Working, with one thing to look at" : `Working, with ${more} things to look at`;
  const first = wrong === 1 ? "One thing is wrong" : `${wrong} things are wrong`;
  return more ? `${first}, ${more} more to look at` : first;
}

function members(snapshot) {
  const found = [];
  if (snapshot.draining)
    found.push({ level: "warn", text: "This gateway is being stopped: it takes no more requests." });
  if (!snapshot.verifiers.length) found.push({ level: "bad", text: "No verifier is alive: nothing is answered." });
  for (const [kind, list] of [
    ["drafter", snapshot.drafters],
    ["selector", snapshot.selectors],
  ])
    if (!list.length) found.push({ level: "warn", text: `No ${kind} is alive: tokens come one at a time.` });
  return found;
}

function promises(classes) {
  return classes
    .filter((one) => standing(one) === "bad")
    .map((one) => ({
      level: "bad",
      text: `Class ${one.name} keeps ${percent(one.attainment)} of its promises at this gateway; ${percent(one.objective)} is the objective.`,
    }));
}

/** Whether a class meets its objective, "ok" or "bad"; "idle" where it has none, or too few requests to tell. */
export function standing(one) {
  if (one.objective === null || one.requests < ENOUGH) return "idle";
  return one.attainment < one.objective ? "bad" : "ok";
}

function verifier(one) {
  const found = [];
  if (one.mode && one.mode !== "speculative") {
    const why = reasonText(one.mode_reason);
    found.push({
      level: "warn",
      text: `${one.name}: ${modeName(one.mode).toLowerCase()}${why ? `, because ${why}` : ""}.`,
    });
  }
  if (one.calibration_error > DRIFT)
    found.push({
      level: "warn",
      text: `${one.name}: of the tokens that the draft promises, ${kept(one)} are accepted.`,
    });
  if (one.kv_total && one.kv_used / one.kv_total > REDIS_FULL)
    found.push({
      level: "warn",
      text: `${one.name}: KV memory is ${percent(one.kv_used / one.kv_total, 0)} full.`,
    });
  return found;
}

function kept({ expected_accepted: expected, realised_accepted: realised }) {
  return expected ? percent(realised / expected, 0) : "none";
}

function queues(tiers) {
  return tiers
    .filter((tier) => tier.oldest_s > OLD_QUEUE_S)
    .map((tier) => ({
      level: "warn",
      text: `Tier ${tier.tier}: ${number(tier.waiting)} waiting, the oldest for ${span(tier.oldest_s)}.`,
    }));
}

function redis({ used_bytes: used, max_bytes: max }) {
  if (!max || used / max < REDIS_BUSY) return [];
  const level = used / max > REDIS_FULL ? "bad" : "warn";
  return [{ level, text: `Redis holds ${bytes(used)} of ${bytes(max)}.` }];
}

/** How a request stands against its target: words and a level. */
export function slackOf(one) {
  if (one.slack_ms === null || one.slack_ms === undefined) return { level: "idle", text: "no target" };
  if (one.slack_ms < 0) return { level: "bad", text: `${ms(-one.slack_ms)} behind` };
  return { level: "ok", text: `${ms(one.slack_ms)} to spare` };
}
