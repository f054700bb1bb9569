// TPOT against its target as the tokens come, and the figures of the whole request.

import { el, setText, setVars } from "./dom.js";
import { ms, NONE, number, percent } from "./format.js";

const FULL = 2; // the gauge's end, in targets

/** A gauge and four figures. */
export class Pace {
  constructor() {
    this.gauge = el(
      "div",
      { class: "gauge", role: "meter", "aria-label": "Time per output token", "aria-valuemin": "0" },
      el("span", { class: "gauge-fill" }),
      el("i", { class: "gauge-mark" }),
    );
    this.told = el("p", { class: "gauge-words" }, el("b"), el("span"));
    this.figures = Object.fromEntries(
      ["TTFT", "Tokens/s", "Accepted a step", "Drafts accepted"].map((name) => [name, el("dd", { text: NONE })]),
    );
    const list = Object.entries(this.figures).map(([name, value]) =>
      el("div", {}, el("dt", { text: name }), value),
    );
    this.node = el(
      "div",
      { class: "pace" },
      el("div", { class: "gauge-box" }, this.told, this.gauge),
      el("dl", { class: "mini" }, ...list),
    );
    this.begin();
  }

  /** @param {number|null} [target] what is asked for, until the gateway tells what it makes of it; ms per token */
  begin(target = null) {
    Object.assign(this, {
      target,
      started: performance.now(),
      first: null,
      firstCount: 0,
      tokens: 0,
      tpot: null,
    });
    for (const value of Object.values(this.figures)) setText(value, NONE);
    this.draw();
  }

  /** What the gateway has made of the target: `class=chatbot, tpot_ms=40`. */
  promise(header) {
    const found = /tpot_ms=([\d.]+)/.exec(header ?? "");
    this.target = found ? Number(found[1]) : null;
    this.draw();
  }

  /** Tokens that have come just now. */
  count(added) {
    const now = performance.now();
    if (this.first === null) {
      this.first = now;
      this.firstCount = added;
      setText(this.figures.TTFT, ms(now - this.started));
    }
    this.tokens += added;
    if (this.tokens > this.firstCount) this.tpot = (now - this.first) / (this.tokens - this.firstCount);
    setText(this.figures["Tokens/s"], this.tpot ? number(1000 / this.tpot, 1) : NONE);
    this.draw();
  }

  /** The server's own figures, at the end. */
  settle({
    time_to_first_token_ms: ttft,
    mean_itl_ms: tpot,
    tokens_per_second: speed,
    speculative_decoding: drafts,
    slo,
  }) {
    setText(this.figures.TTFT, ms(ttft));
    setText(this.figures["Tokens/s"], number(speed, 1));
    setText(
      this.figures["Accepted a step"],
      drafts.mean_acceptance_length ? `+ ${number(drafts.mean_acceptance_length - 1, 2)}` : NONE,
    );
    setText(this.figures["Drafts accepted"], percent(drafts.draft_acceptance_rate, 0));
    this.tpot = tpot;
    this.target = slo.tpot_target_ms;
    this.draw();
  }

  words() {
    if (this.tpot === null) return "no pace to tell";
    if (!this.target) return `${ms(this.tpot)} per token`;
    const off = this.target - this.tpot;
    return `${ms(this.tpot)} per token, ${ms(Math.abs(off))} ${off >= 0 ? "faster" : "slower"} than the target`;
  }

  draw() {
    const { tpot, target } = this;
    const level = tpot === null ? "idle" : !target ? "free" : tpot <= target ? "ok" : "bad";
    const full = target ? target * FULL : Math.max(tpot ?? 0, 1) * 1.25;
    this.node.dataset.level = level;
    setVars(this.gauge, { "--fill": Math.min(1, (tpot ?? 0) / full), "--mark": target ? 1 / FULL : 0 });
    this.gauge.lastChild.hidden = !target;
    this.gauge.setAttribute("aria-valuemax", String(full));
    this.gauge.setAttribute("aria-valuenow", String(Math.min(tpot ?? 0, full)));
    this.gauge.setAttribute("aria-valuetext", this.words());
    setText(this.told.firstChild, tpot === null ? NONE : ms(tpot));
    setText(this.told.lastChild, target ? `per token; target ${ms(target)}` : "per token; no target");
  }
}
