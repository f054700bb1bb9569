// The strip of iterations of one request, and the one that is chosen with its token tree.

import { ask } from "./api.js";
import { el, keyed, setText, setVars } from "./dom.js";
import { acceptedIn, bestOf, factsOf, summaryOf } from "./iteration_facts.js";
import { createTree } from "./tree.js";

const POLL_MS = 600;
const LAST_MS = 300;
const HINT = "Each iteration of the verifier shows here: what was drafted, chosen and accepted.";
const TALLEST = 8; // tokens of an iteration that fill a bar

/** Follows `/v1/streams/{id}/inspect`. */
export class Iterations {
  /** @param {(iterations: Object[]) => void} onMore */
  constructor(onMore) {
    this.onMore = onMore;
    this.strip = el("div", {
      class: "strip",
      role: "listbox",
      "aria-label": "Iterations",
      "aria-orientation": "horizontal",
      tabindex: "0",
    });
    this.facts = el("dl", { class: "facts" });
    this.tree = createTree();
    this.hint = el("p", { class: "hint none", text: HINT });
    this.detail = el("div", { class: "iteration", hidden: true }, el("h3", {}), this.facts, this.tree.node);
    const head = el(
      "div",
      { class: "card-head" },
      el("h2", { text: "Iterations" }),
      el("p", { class: "hint", text: "Arrow keys go from one to the next; the taller, the more tokens it gave" }),
    );
    this.node = el(
      "section",
      { class: "card", "aria-label": "Iterations" },
      head,
      this.hint,
      this.strip,
      this.detail,
    );
    this.strip.addEventListener("keydown", (event) => this.onKey(event));
    this.clear();
  }

  clear() {
    clearTimeout(this.timer);
    Object.assign(this, { id: null, headers: {}, cursor: null, all: [], chosen: -1, isOwnChoice: false, loading: null });
    setText(this.hint, HINT);
    this.draw();
  }

  /**
   * @param {string|null} stream the request's id, as the answer's header tells it
   * @param {Object} headers who asked: only the same tenant may look
   */
  follow(stream, headers) {
    Object.assign(this, { id: stream, headers });
    if (stream) this.timer = setTimeout(() => this.poll(), POLL_MS);
  }

  async poll() {
    const { id } = this;
    if ((await this.load()) && this.id === id) this.timer = setTimeout(() => this.poll(), POLL_MS);
  }

  /** What has come since the last look, one look at a time; false where looking again is of no use. */
  load() {
    const after = this.loading ?? Promise.resolve(true);
    this.loading = after.then(() => this.look(this.id));
    return this.loading;
  }

  async look(id) {
    if (id === null) return false;
    const after = this.cursor === null ? "" : `?after=${encodeURIComponent(this.cursor)}`;
    try {
      const { headers } = this;
      const found = await ask(`v1/streams/${encodeURIComponent(id)}/inspect${after}`, { headers });
      if (this.id !== id) return false;
      this.cursor = found.cursor ?? this.cursor;
      this.take(found.iterations);
      if (found.more) return await this.look(id);
    } catch (error) {
      return !error.isMissing && !error.isUnauthorised;
    }
    return true;
  }

  /** The stream is over: look twice more, for the last of it may be on its way. */
  async finish() {
    const { id } = this;
    if (id === null) return;
    await this.load();
    await new Promise((done) => setTimeout(done, LAST_MS));
    if (this.id !== id) return;
    clearTimeout(this.timer);
    await this.load();
    if (this.id !== id) return;
    clearTimeout(this.timer);
    if (!this.all.length) setText(this.hint, "This gateway did not tell the iterations of this request.");
  }

  take(found) {
    if (!found.length) return;
    // What another verifier took again was not committed.
    while (this.all.length && this.all.at(-1).position >= found[0].position) this.all.pop();
    this.all.push(...found);
    this.onMore(found);
    const before = this.chosen;
    this.chosen = this.isOwnChoice ? Math.min(this.chosen, this.all.length - 1) : bestOf(this.all);
    this.draw();
    if (this.chosen !== before) this.reveal();
  }

  /** Scroll the strip, and not the page, to the chosen one. */
  reveal() {
    const strip = this.strip.getBoundingClientRect();
    const bar = this.strip.children[this.chosen].getBoundingClientRect();
    this.strip.scrollLeft += Math.max(0, bar.right - strip.right) - Math.max(0, strip.left - bar.left);
  }

  /** Choose the iteration that a context position belongs to. */
  pickAt(position) {
    const at = this.all.findLastIndex((one) => one.position <= position);
    if (at >= 0) this.pick(at);
  }

  pick(index) {
    this.isOwnChoice = true;
    this.chosen = Math.min(this.all.length - 1, Math.max(0, index));
    this.draw();
    this.strip.children[this.chosen]?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  onKey(event) {
    const steps = { ArrowRight: this.chosen + 1, ArrowLeft: this.chosen - 1, Home: 0, End: this.all.length - 1 };
    if (!(event.key in steps) || !this.all.length) return;
    event.preventDefault();
    this.pick(steps[event.key]);
  }

  draw() {
    this.hint.hidden = this.all.length > 0;
    this.strip.hidden = this.all.length === 0;
    this.detail.hidden = this.chosen < 0;
    const items = this.all.map((one, index) => ({ one, index }));
    keyed(
      this.strip,
      items,
      ({ one, index }) => `${index}:${one.position}:${one.step}`,
      (item) => this.bar(item),
      (node, { index }) => node.setAttribute("aria-selected", String(index === this.chosen)),
    );
    if (this.chosen < 0) return this.strip.removeAttribute("aria-activedescendant");
    this.strip.setAttribute("aria-activedescendant", `it-${this.chosen}`);
    const shown = this.all[this.chosen];
    setText(this.detail.firstChild, `Iteration ${this.chosen + 1} of ${this.all.length}`);
    this.facts.replaceChildren(
      ...factsOf(shown).map(([name, value]) => el("div", {}, el("dt", { text: name }), el("dd", { text: value }))),
    );
    this.tree.draw(shown);
    return undefined;
  }

  bar({ one, index }) {
    const accepted = acceptedIn(one);
    const label = summaryOf(one, index);
    const node = el(
      "div",
      {
        id: `it-${index}`,
        role: "option",
        class: "step",
        "aria-label": label,
        title: label,
        on: { click: () => this.pick(index) },
      },
      el("span", { class: "step-own" }),
      el("span", { class: "step-accepted" }),
    );
    setVars(node, { "--accepted": Math.min(TALLEST, accepted) / TALLEST });
    return node;
  }
}
