// The choice of a target: a pace on a slider, a class of the policy, or none.

import { el, setText, setVars } from "./dom.js";
import { ms } from "./format.js";

const FASTEST_MS = 2;
const SLOWEST_MS = 500;
const STEPS = 200;
const FIRST = 2; // idle paces: a target that can be met beside a few others
const CLASS = "class:";

/** Slider steps are equal factors, for a millisecond matters more at 5 than at 300. */
export function tpotAt(step) {
  const value = FASTEST_MS * (SLOWEST_MS / FASTEST_MS) ** (step / STEPS);
  return Number(value.toPrecision(value < 10 ? 2 : 3));
}

/** Where on the slider a TPOT stands, from 0 to 1. */
export function shareOf(tpotMs) {
  const share = Math.log(tpotMs / FASTEST_MS) / Math.log(SLOWEST_MS / FASTEST_MS);
  return Math.min(1, Math.max(0, share));
}

const option = (value, text) => el("option", { value, text });

/** A fieldset; `value` is what it comes to. */
export class Target {
  constructor() {
    this.offered = [];
    this.zeroLoad = null;
    this.own = option("custom", "A pace of my own");
    this.none = option("none", "None: best effort");
    this.source = el("select", { id: "f-target" }, this.own, this.none);
    this.slider = el("input", {
      type: "range",
      id: "f-tpot",
      min: "0",
      max: String(STEPS),
      step: "1",
      value: "100",
    });
    this.shown = el("output", { for: "f-tpot", class: "figure" });
    this.marks = el("div", { class: "marks" });
    this.told = el("p", { class: "hint" });
    const words = el(
      "p",
      { class: "pace-words" },
      this.shown,
      el("span", { class: "hint", text: "per token, at most" }),
    );
    this.pick = el("div", { class: "pace-pick" }, el("div", { class: "range" }, this.slider, this.marks), words);
    this.node = el(
      "fieldset",
      { class: "slo" },
      el("legend", { class: "visually-hidden", text: "Target" }),
      el("label", { for: "f-target", text: "Target" }),
      this.source,
      el("label", { for: "f-tpot", class: "visually-hidden", text: "Time per output token" }),
      this.pick,
      this.told,
    );
    this.slider.addEventListener("input", () => this.draw());
    this.source.addEventListener("change", () => this.draw());
    this.draw();
  }

  /**
   * What there is to choose from.
   * @param {{slo_classes: Object[], zero_load_ms?: number|null}} model
   */
  offer({ slo_classes: offered, zero_load_ms: zeroLoad = null }) {
    const isFirst = this.zeroLoad === null && zeroLoad !== null;
    Object.assign(this, { offered, zeroLoad });
    if (isFirst) this.slider.value = String(Math.round(shareOf(FIRST * zeroLoad) * STEPS));
    const chosen = this.source.value;
    const classes = offered.map((one) =>
      option(CLASS + one.class, `Class ${one.class}${one.is_default ? " (default)" : ""}`),
    );
    this.source.replaceChildren(this.own, ...classes, this.none);
    this.source.value = chosen;
    if (this.source.selectedIndex < 0) this.source.value = "custom";
    this.marks.replaceChildren(...(zeroLoad ? [mark("idle pace", zeroLoad)] : []));
    this.draw();
  }

  /** @returns {{slo: Object|null}} the field `adaserve.slo`; null where none is asked for */
  get value() {
    const chosen = this.source.value;
    if (chosen === "none") return null;
    return chosen === "custom" ? { tpot_ms: this.tpot } : { class: chosen.slice(CLASS.length) };
  }

  /** What that comes to in ms per token, null where there is no target. */
  get tpotMs() {
    if (this.source.value === "custom") return this.tpot;
    return this.chosenClass()?.tpot_ms ?? null;
  }

  chosenClass() {
    return this.offered.find((offer) => CLASS + offer.class === this.source.value);
  }

  get tpot() {
    return tpotAt(Number(this.slider.value));
  }

  draw() {
    setText(this.shown, ms(this.tpot));
    this.slider.setAttribute("aria-valuetext", `${ms(this.tpot)} per token`);
    this.pick.hidden = this.source.value !== "custom";
    setText(this.told, this.words());
  }

  words() {
    const one = this.chosenClass();
    if (one) return one.tpot_ms === null ? "This class has no target for TPOT." : `${ms(one.tpot_ms)} per token.`;
    if (this.source.value === "none") return "It gets what others leave.";
    return this.zeroLoad
      ? `Without speculation an idle server takes ${ms(this.zeroLoad)} per token (the mark).`
      : "";
  }
}

function mark(name, tpotMs) {
  const node = el("span", { class: "slider-mark", title: `${name}: ${ms(tpotMs)}` }, el("span", { text: name }));
  setVars(node, { "--at": shareOf(tpotMs) });
  return node;
}
