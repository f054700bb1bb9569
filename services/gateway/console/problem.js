// An error of the API in words: what was wrong, in which field, and what could be done.

import { el, icon, setText } from "./dom.js";
import { ms } from "./format.js";

const ADVICE = {
  missing_api_key: "Type in a key under Keys.",
  invalid_api_key: "Look at it under Keys.",
  expired_api_key: "Ask an operator for a new key.",
  revoked_api_key: "Ask an operator for a new key.",
  scope_not_allowed: "Type in a key that has it under Keys.",
  unreachable: "It may be restarting. Try again when it is back.",
  draining: "This gateway is being stopped. Run it again in a moment.",
  slo_unreachable: "Choose a slower target: an idle server could not keep this one.",
  queue_full: "Too many requests wait. Try again in a moment.",
  unavailable: "The cell cannot take requests now. Try again in a moment.",
};

/** A panel that shows one error, or nothing. */
export class Problem {
  constructor() {
    this.title = el("strong");
    this.more = el("p", { class: "hint" });
    this.node = el(
      "div",
      { class: "problem", role: "alert", hidden: true },
      icon("bad"),
      el("div", {}, this.title, this.more),
    );
  }

  clear() {
    this.node.hidden = true;
  }

  /** @param {import("./api.js").ApiError} error */
  show(error) {
    setText(this.title, sentence(error.message));
    setText(this.more, adviceFor(error));
    this.node.hidden = false;
  }
}

function sentence(text) {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** What helps, the field at fault, and when to try again. */
export function adviceFor(error) {
  const parts = [];
  if (error.param) parts.push(`Field: ${error.param}.`);
  if (ADVICE[error.code]) parts.push(ADVICE[error.code]);
  if (error.details?.achievable_tpot_ms)
    parts.push(`${ms(error.details.achievable_tpot_ms)} per token can be had now.`);
  if (error.retryAfterMs) parts.push(`Try again in ${ms(error.retryAfterMs)}.`);
  if (error.code) parts.push(`(${error.status || "no answer"}, ${error.code})`);
  return parts.join(" ");
}
