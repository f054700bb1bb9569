// Whom a mode is ordered for: the cell, a tenant or a class.

import { el, setText } from "./dom.js";

const NAMES = { cell: "The whole cell", tenant: "One tenant", class: "One class" };

/** Two fields, of which the second is there where a name is needed. */
export class Scope {
  /** @param {() => void} onChange */
  constructor(onChange) {
    const options = Object.entries(NAMES).map(([value, text]) => el("option", { value, text }));
    this.kind = el("select", { id: "scope", on: { change: () => this.changed(onChange) } }, ...options);
    this.names = { tenant: [], class: [] };
    this.known = el("datalist", { id: "scope-names" });
    const props = { id: "scope-name", type: "text", maxlength: "128", autocomplete: "off", list: "scope-names" };
    this.name = el("input", props);
    this.name.addEventListener("input", onChange);
    this.label = el("label", { for: "scope-name" });
    this.holder = el("div", { class: "field", hidden: true }, this.label, this.name, this.known);
    const kind = el("div", { class: "field" }, el("label", { for: "scope", text: "For" }), this.kind);
    this.node = el("div", { class: "fields" }, kind, this.holder);
  }

  changed(onChange) {
    this.holder.hidden = this.kind.value === "cell";
    setText(this.label, this.kind.value === "tenant" ? "Tenant" : "Class");
    this.suggest();
    onChange();
  }

  /** @param {{tenant: string[], class: string[]}} names to suggest; any other may be typed all the same */
  offer(names) {
    this.names = names;
    this.suggest();
  }

  suggest() {
    const names = this.names[this.kind.value] ?? [];
    this.known.replaceChildren(...names.map((name) => el("option", { value: name })));
  }

  get isNamed() {
    return this.kind.value === "cell" || this.name.value.trim() !== "";
  }

  /** As the body of an order has it. */
  get place() {
    return this.kind.value === "cell" ? {} : { [this.kind.value]: this.name.value.trim() };
  }

  /** As orders are named by the gateway. */
  get key() {
    return this.kind.value === "cell" ? "cell" : `${this.kind.value}:${this.name.value.trim()}`;
  }
}

/** The place of an order's name, such as `tenant:acme`. */
export function placeOf(name) {
  const at = name.indexOf(":");
  return at < 0 ? {} : { [name.slice(0, at)]: name.slice(at + 1) };
}
