// The fail-safe: verification modes, ordered for the cell, a tenant or a class, in two actions.

import { ask } from "./api.js";
import { announce, el, icon, keyed, row, setText, table } from "./dom.js";
import { modeName, NONE, span } from "./format.js";
import { Problem } from "./problem.js";
import { modeChip } from "./tables.js";
import { reasonText } from "./verdict.js";

const POLL_MS = 1000;
const WORDS = {
  full_verification: [
    "Switch speculation off",
    "Every token will be the target's own step. Answers stay the same; they come slower.",
  ],
  auto: ["Back to automatic", "Each verifier speculates again unless it finds a reason not to."],
  speculative: ["Keep speculation on", "Verifiers speculate even where they found a reason not to."],
};

/**
 * @param {HTMLElement} section
 * @returns {{show: () => void}}
 */
export function createMode(section) {
  const page = new ModePage(section);
  section.replaceChildren(
    el("h1", { id: "title-mode", class: "visually-hidden", text: "Verification mode" }),
    page.node,
    page.dialog,
  );
  return { show: () => page.poll() };
}

class ModePage {
  constructor(section) {
    this.section = section;
    this.problem = new Problem();
    this.now = el("p", { class: "verdict" });
    this.why = el("p", { class: "hint" });
    this.place = this.scope();
    this.off = this.action("full_verification", "danger");
    this.back = this.action("auto", "primary");
    this.force = this.action("speculative", "quiet");
    this.dialog = this.confirmation();
    this.orders = listOf(
      "Orders in force",
      "What operators have set, and until it is withdrawn",
      ["For", "Mode", "Reason", "By", "Since", ""],
      "No order is in force: every verifier decides by itself.",
    );
    this.verifiers = listOf(
      "What verifiers do",
      "It counts from the next iteration of each",
      ["Verifier", "Mode", "Why", "Since"],
      "No verifier is alive.",
    );
    this.mark = el("span", { class: "mark" });
    this.head = el("div", { class: "headline", role: "status" }, this.mark, el("div", {}, this.now, this.why));
    const control = el(
      "section",
      { class: "card failsafe", "aria-label": "Mode switch" },
      this.head,
      this.place.node,
      el("div", { class: "actions" }, this.off, this.back, this.force),
      el("p", {
        class: "hint",
        text: "Switching it off is safe at any time: the target writes every token itself, answers stay the same and come slower.",
      }),
    );
    this.node = el("div", { class: "stack" }, this.problem.node, control, this.orders.node, this.verifiers.node);
  }

  scope() {
    const kind = el(
      "select",
      { id: "scope" },
      el("option", { value: "cell", text: "The whole cell" }),
      el("option", { value: "tenant", text: "One tenant" }),
      el("option", { value: "class", text: "One class" }),
    );
    const name = el("input", {
      id: "scope-name",
      type: "text",
      maxlength: "128",
      autocomplete: "off",
      spellcheck: "false",
    });
    const holder = el(
      "div",
      { class: "field", hidden: true },
      el("label", { for: "scope-name", text: "Name" }),
      name,
    );
    kind.addEventListener("change", () => {
      holder.hidden = kind.value === "cell";
      name.required = kind.value !== "cell";
      setText(holder.firstChild, kind.value === "tenant" ? "Tenant" : "Class");
      this.draw();
    });
    name.addEventListener("input", () => this.draw());
    const node = el(
      "div",
      { class: "fields" },
      el("div", { class: "field" }, el("label", { for: "scope", text: "For" }), kind),
      holder,
    );
    const body = () => (kind.value === "cell" ? {} : { [kind.value]: name.value.trim() });
    const isNamed = () => kind.value === "cell" || name.value.trim() !== "";
    return {
      node,
      body,
      isNamed,
      key: () => (kind.value === "cell" ? "cell" : `${kind.value}:${name.value.trim()}`),
    };
  }

  action(mode, kind) {
    return el("button", {
      type: "button",
      class: kind,
      text: `${WORDS[mode][0]}…`,
      on: { click: () => this.ask(mode, this.place.body()) },
    });
  }

  confirmation() {
    this.heading = el("h2", { id: "confirm-title" });
    this.effect = el("p");
    this.reason = el("input", {
      id: "reason",
      type: "text",
      maxlength: "256",
      autocomplete: "off",
      placeholder: "Such as: the draft is being retrained",
    });
    this.confirm = el("button", { type: "submit", value: "confirm" });
    const cancel = el("button", {
      type: "button",
      class: "quiet",
      text: "Cancel",
      on: { click: () => this.dialog.close("") },
    });
    const form = el(
      "form",
      { method: "dialog" },
      this.heading,
      this.effect,
      el("label", { for: "reason", text: "Reason, for the audit and your colleagues" }),
      this.reason,
      el("div", { class: "actions" }, cancel, this.confirm),
    );
    const dialog = el(
      "dialog",
      {
        "aria-labelledby": "confirm-title",
        on: { close: () => dialog.returnValue === "confirm" && this.order() },
      },
      form,
    );
    return dialog;
  }

  ask(mode, place) {
    this.wanted = { mode, place };
    setText(this.heading, `${WORDS[mode][0]} for ${placeName(place)}?`);
    setText(this.effect, WORDS[mode][1]);
    setText(this.confirm, WORDS[mode][0]);
    this.confirm.className = mode === "full_verification" ? "danger" : "primary";
    this.reason.value = "";
    this.dialog.returnValue = "";
    this.dialog.showModal();
    this.reason.focus();
  }

  async order() {
    const { mode, place } = this.wanted;
    this.problem.clear();
    try {
      this.take(await ask("admin/mode", { method: "PUT", body: { mode, ...place, reason: this.reason.value } }));
      announce(`Ordered for ${placeName(place)}: ${modeName(mode)}`);
    } catch (error) {
      this.problem.show(error);
      this.isRefused = true;
    }
  }

  async poll() {
    clearTimeout(this.timer);
    if (this.section.hidden) return;
    try {
      this.take(await ask("admin/mode", { signal: AbortSignal.timeout(8000) }));
      if (!this.isRefused) this.problem.clear();
    } catch (error) {
      this.isRefused = false;
      this.problem.show(error);
    }
    this.timer = setTimeout(() => this.poll(), document.hidden ? 5 * POLL_MS : POLL_MS);
  }

  take(modes) {
    this.modes = modes;
    this.draw();
  }

  draw() {
    if (!this.modes) return;
    const orders = Object.entries(this.modes.orders);
    const verifiers = Object.entries(this.modes.verifiers);
    const key = this.place.key();
    const ordered = this.modes.orders[key]?.mode ?? "auto";
    for (const [button, mode] of [
      [this.off, "full_verification"],
      [this.back, "auto"],
      [this.force, "speculative"],
    ]) {
      button.hidden = ordered === mode;
      button.disabled = !this.place.isNamed();
    }
    const { title, hint } = told(ordered, this.modes.orders[key], verifiers);
    const level =
      ordered === "auto" ? (this.isAllOn(verifiers) ? "ok" : "warn") : ordered === "speculative" ? "free" : "warn";
    if (this.head.dataset.level !== level) {
      this.head.dataset.level = level;
      this.mark.replaceChildren(icon(level === "warn" ? "warn" : "ok"));
    }
    setText(this.now, title);
    setText(this.why, hint);
    this.orders.draw(
      orders,
      ([name, order]) => `${name} ${order.at_ms}`,
      (one) => this.orderRow(one),
      updateOrder,
    );
    this.verifiers.draw(verifiers, ([name]) => name, verifierRow, updateVerifier);
  }

  isAllOn(verifiers) {
    return verifiers.length > 0 && verifiers.every(([, one]) => one.mode === "speculative");
  }

  orderRow([name, order]) {
    const withdraw = el("button", {
      type: "button",
      class: "quiet small",
      "aria-label": `Withdraw the order for ${name}`,
      text: "Withdraw…",
      on: { click: () => this.ask("auto", placeOf(name)) },
    });
    return row(this.orders.columns, [
      nameOf(name),
      modeChip(order.mode),
      order.reason || NONE,
      order.by,
      "",
      withdraw,
    ]);
  }
}

function told(ordered, order, verifiers) {
  const off = verifiers.filter(([, one]) => one.mode !== "speculative").length;
  const now = verifiers.length
    ? `${verifiers.length - off} of ${verifiers.length} verifiers speculate.`
    : "No verifier is alive.";
  const title = {
    auto: "Speculation is automatic",
    full_verification: "Speculation is off, by order",
    speculative: "Speculation is on, by order",
  }[ordered];
  return { title, hint: order?.reason ? `“${order.reason}” (${order.by}). ${now}` : now };
}

function listOf(title, hint, columns, none) {
  const { node: grid, body } = table(title, columns, { class: "grid" });
  const empty = el("p", { class: "hint none", text: none });
  const node = el(
    "section",
    { class: "card", "aria-label": title },
    el("div", { class: "card-head" }, el("h2", { text: title }), el("p", { class: "hint", text: hint })),
    el("div", { class: "scroll" }, grid),
    empty,
  );
  const draw = (items, keyOf, create, update) => {
    keyed(body, items, keyOf, create, update);
    empty.hidden = items.length > 0;
    grid.hidden = !items.length;
  };
  return { node, draw, columns };
}

function updateOrder(node, [, order]) {
  setText(node.children[4], span((Date.now() - order.at_ms) / 1000));
}

function verifierRow([name, one]) {
  return row(
    ["Verifier", "Mode", "Why", "Since"],
    [el("span", { class: "name", text: name }), modeChip(one.mode), "", ""],
  );
}

function updateVerifier(node, [, one]) {
  if (node.children[1].firstChild.dataset.mode !== String(one.mode))
    node.children[1].replaceChildren(modeChip(one.mode));
  setText(node.children[2], reasonText(one.reason) || NONE);
  setText(node.children[3], one.since_ms ? span((Date.now() - one.since_ms) / 1000) : NONE);
}

function placeOf(name) {
  const at = name.indexOf(":");
  return at < 0 ? {} : { [name.slice(0, at)]: name.slice(at + 1) };
}

function placeName(place) {
  const [kind, name] = Object.entries(place)[0] ?? [];
  return kind ? `${kind} ${name}` : "the whole cell";
}

function nameOf(name) {
  return el("span", { class: "name", text: placeName(placeOf(name)) });
}
