// The fail-safe: verification modes, ordered for the cell, a tenant or a class, in two actions.

import { ask } from "./api.js";
import { tableCard } from "./cards.js";
import { Confirm, ORDERS, placeName } from "./confirm.js";
import { announce, el, icon, row, setText } from "./dom.js";
import { modeName, NONE, span } from "./format.js";
import { Problem } from "./problem.js";
import { placeOf, Scope } from "./scope.js";
import { whyText } from "./verdict.js";
import { modeChip, setMode } from "./verifiers.js";

const POLL_MS = 1000;
const UNNAMED = ["best_effort", "custom"]; // classes of every cell
const HIDDEN_MS = 5000;
const NO_KEY_MS = 60_000;
const SAFE =
  "Switching it off is safe at any time: the target writes every token itself, answers stay the same and come slower.";
const ORDER_COLUMNS = ["For", "Mode", "Reason", "By", "Since", ""];
const VERIFIER_COLUMNS = ["Verifier", "Mode", "Why", "Since"];
const TITLES = {
  auto: "Speculation is automatic",
  full_verification: "Speculation is off, by order",
  speculative: "Speculation is on, by order",
};

/**
 * @param {HTMLElement} section
 * @returns {{show: () => void}}
 */
export function createMode(section) {
  const page = new ModePage(section);
  const title = el("h1", { id: "title-mode", class: "visually-hidden", text: "Verification mode" });
  section.replaceChildren(title, page.node, page.confirm.node);
  const show = () => {
    page.suggest();
    return page.poll();
  };
  return { show };
}

class ModePage {
  constructor(section) {
    this.section = section;
    this.problem = new Problem();
    this.confirm = new Confirm();
    this.scope = new Scope(() => this.draw());
    this.now = el("p", { class: "verdict", text: "Asking the gateway" });
    this.why = el("p", { class: "hint" });
    this.mark = el("span", { class: "mark" }, icon("idle"));
    this.head = el("div", { class: "headline", role: "status" }, this.mark, el("div", {}, this.now, this.why));
    const kinds = { full_verification: "danger", auto: "primary", speculative: "quiet" };
    this.actions = Object.entries(kinds).map(([mode, kind]) => [mode, this.action(mode, kind)]);
    this.orders = this.orderCard();
    this.verifiers = verifierCard();
    const control = el(
      "section",
      { class: "card failsafe", "aria-label": "Mode switch" },
      this.head,
      this.scope.node,
      el("div", { class: "actions" }, ...this.actions.map(([, button]) => button)),
      el("p", { class: "hint", text: SAFE }),
    );
    this.node = el("div", { class: "stack" }, this.problem.node, control, this.orders.node, this.verifiers.node);
  }

  action(mode, kind) {
    const click = () => this.order(mode, this.scope.place);
    return el("button", {
      type: "button",
      class: kind,
      disabled: true,
      text: `${ORDERS[mode][0]}…`,
      on: { click },
    });
  }

  orderCard() {
    return tableCard({
      title: "Orders in force",
      hint: "What operators have set, until it is withdrawn",
      columns: ORDER_COLUMNS,
      none: "No order is in force: every verifier decides by itself.",
      key: ([name, order]) => `${name} ${order.at_ms}`,
      create: (one) => this.orderRow(one),
      update: (node, [, order]) => setText(node.children[4], span((Date.now() - order.at_ms) / 1000)),
    });
  }

  orderRow([name, order]) {
    const click = () => this.order("auto", placeOf(name));
    const label = `Withdraw the order for ${placeName(placeOf(name))}`;
    const props = { type: "button", class: "quiet small", "aria-label": label, text: "Withdraw…", on: { click } };
    const place = el("span", { class: "name", text: placeName(placeOf(name)) });
    return row(ORDER_COLUMNS, [
      place,
      modeChip(order.mode),
      order.reason || NONE,
      order.by,
      "",
      el("button", props),
    ]);
  }

  async order(mode, place) {
    const reason = await this.confirm.ask(mode, place);
    if (reason === null) return;
    try {
      this.take(await ask("admin/mode", { method: "PUT", body: { mode, ...place, reason } }));
      this.tell(null);
      announce(`Ordered for ${placeName(place)}: ${modeName(mode)}`);
    } catch (error) {
      this.tell(error, true);
    }
  }

  /** Names of the policy, beside which best effort and targets of one's own are classes, too. */
  async suggest() {
    const { classes = {}, tenants = {} } = await ask("admin/slo").catch(() => ({}));
    const names = [...Object.keys(classes), ...UNNAMED];
    this.scope.offer({ class: names, tenant: Object.keys(tenants) });
  }

  async poll() {
    clearTimeout(this.timer);
    if (this.section.hidden) return;
    let pause = document.hidden ? HIDDEN_MS : POLL_MS;
    try {
      this.take(await ask("admin/mode", { signal: AbortSignal.timeout(8000) }));
      if (!this.isRefused) this.tell(null);
    } catch (error) {
      this.tell(error);
      pause = error.isUnauthorised ? NO_KEY_MS : HIDDEN_MS;
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.poll(), pause);
  }

  /** Show an error, or none; a refused order's stays until the next order or another error. */
  tell(error, isRefused = false) {
    this.isRefused = isRefused;
    if (error) this.problem.show(error);
    else this.problem.clear();
  }

  take(modes) {
    this.modes = modes;
    this.draw();
  }

  draw() {
    if (!this.modes) return;
    const verifiers = Object.entries(this.modes.verifiers);
    const order = this.modes.orders[this.scope.key];
    const ordered = order?.mode ?? "auto";
    for (const [mode, button] of this.actions) {
      button.hidden = ordered === mode;
      button.disabled = !this.scope.isNamed;
    }
    this.setHead(ordered, order, verifiers);
    this.orders.draw(Object.entries(this.modes.orders));
    this.verifiers.draw(verifiers);
  }

  setHead(ordered, order, verifiers) {
    const numOn = verifiers.filter(([, one]) => one.mode === "speculative").length;
    const isFine = ordered === "speculative" || (ordered === "auto" && numOn === verifiers.length && numOn > 0);
    const level = isFine ? "ok" : "warn";
    if (this.head.dataset.level !== level) {
      this.head.dataset.level = level;
      this.mark.replaceChildren(icon(level));
    }
    const now = verifiers.length
      ? `${numOn} of ${verifiers.length} verifiers speculate.`
      : "No verifier is alive.";
    setText(this.now, TITLES[ordered]);
    setText(this.why, order?.reason ? `“${order.reason}” (${order.by}). ${now}` : now);
  }
}

function verifierCard() {
  return tableCard({
    title: "What verifiers do",
    hint: "An order counts from the next iteration of each",
    columns: VERIFIER_COLUMNS,
    none: "No verifier is alive.",
    key: ([name]) => name,
    create: ([name, one]) =>
      row(VERIFIER_COLUMNS, [el("span", { class: "name", text: name }), modeChip(one.mode), "", ""]),
    update: (node, [, one]) => {
      setMode(node.children[1], one.mode);
      setText(node.children[2], whyText(one.mode, one.reason) || NONE);
      setText(node.children[3], one.since_ms ? span((Date.now() - one.since_ms) / 1000) : NONE);
    },
  });
}
