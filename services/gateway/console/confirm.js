// The second action of the fail-safe: what an order does, a reason for it, and yes or no.

import { el, setText } from "./dom.js";

/** What each mode is called as an order, and what it does. */
export const ORDERS = {
  full_verification: [
    "Switch speculation off",
    "Every token will be the target's own step. Answers stay the same; they come slower.",
  ],
  auto: ["Back to automatic", "Each verifier speculates again unless it finds a reason not to."],
  speculative: ["Keep speculation on", "Verifiers speculate even where they found a reason not to."],
};

/** Whom a scope's order is for: `{}`, `{tenant: name}` or `{class: name}`. */
export function placeName(place) {
  const [kind, name] = Object.entries(place)[0] ?? [];
  return kind ? `${kind} ${name}` : "the whole cell";
}

/** A dialog that asks once more. */
export class Confirm {
  constructor() {
    this.heading = el("h2", { id: "confirm-title" });
    this.effect = el("p");
    const example = "Such as: the draft is being retrained";
    this.reason = el("input", {
      id: "reason",
      type: "text",
      maxlength: "256",
      autocomplete: "off",
      placeholder: example,
    });
    this.yes = el("button", { type: "submit", value: "confirm" });
    const no = el("button", {
      type: "button",
      class: "quiet",
      text: "Cancel",
      on: { click: () => this.node.close("") },
    });
    const form = el(
      "form",
      { method: "dialog" },
      this.heading,
      this.effect,
      el("label", { for: "reason", text: "Reason, for the audit and your colleagues" }),
      this.reason,
      el("div", { class: "actions" }, no, this.yes),
    );
    this.node = el("dialog", { "aria-labelledby": "confirm-title", on: { close: () => this.closed() } }, form);
  }

  /**
   * @param {string} mode
   * @param {Object} place
   * @returns {Promise<string|null>} the reason, empty for none; null where it was called off
   */
  ask(mode, place) {
    const [title, effect] = ORDERS[mode];
    setText(this.heading, `${title} for ${placeName(place)}?`);
    setText(this.effect, effect);
    setText(this.yes, title);
    this.yes.className = mode === "full_verification" ? "danger" : "primary";
    this.reason.value = "";
    this.node.returnValue = "";
    this.node.showModal();
    this.reason.focus();
    return new Promise((answer) => {
      this.answer = answer;
    });
  }

  closed() {
    this.answer?.(this.node.returnValue === "confirm" ? this.reason.value.trim() : null);
    this.answer = null;
  }
}
