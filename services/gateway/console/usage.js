// What tenants have used, by class, over a period.

import { ask, request } from "./api.js";
import { el, icon, row, setText, table } from "./dom.js";
import { Problem } from "./problem.js";
import { cellsOf, COLUMNS, startOf, summed } from "./usage_rows.js";

const DAY_MS = 86_400_000;

/**
 * @param {HTMLElement} section
 * @returns {{show: () => void}}
 */
export function createUsage(section) {
  const page = new UsagePage();
  const title = el("h1", { id: "title-usage", class: "visually-hidden", text: "Usage" });
  section.replaceChildren(title, page.node);
  return { show: () => page.load() };
}

class UsagePage {
  constructor() {
    this.problem = new Problem();
    this.since = el("input", { id: "u-since", type: "date", required: true });
    this.until = el("input", { id: "u-until", type: "date", required: true });
    this.tenant = el("input", { id: "u-tenant", type: "text", placeholder: "all", autocomplete: "off" });
    const option = (value, text) => el("option", { value, text });
    this.by = el(
      "select",
      { id: "u-by" },
      option("", "the whole period"),
      option("day", "day"),
      option("hour", "hour"),
    );
    this.since.value = day(-6);
    this.until.value = day(0);
    this.status = el("p", { class: "hint", role: "status" });
    this.list = el("div", { class: "scroll" });
    const head = el("div", { class: "card-head" }, el("h2", { text: "Usage" }), this.status);
    const found = el("section", { class: "card", "aria-label": "Usage by tenant and class" }, head, this.list);
    this.form = this.createForm();
    this.node = el("div", { class: "stack" }, this.form, this.problem.node, found);
  }

  createForm() {
    const field = (label, control) =>
      el("div", { class: "field" }, el("label", { for: control.id, text: label }), control);
    const download = { type: "button", class: "quiet", on: { click: () => this.download() } };
    const submit = (event) => {
      event.preventDefault();
      this.load();
    };
    return el(
      "form",
      { class: "card period", "aria-label": "Period", on: { submit } },
      field("From", this.since),
      field("To, inclusive", this.until),
      field("Tenant", this.tenant),
      field("By", this.by),
      el(
        "div",
        { class: "actions" },
        el("button", download, icon("down"), "CSV"),
        el("button", { type: "submit", class: "primary", text: "Show" }),
      ),
    );
  }

  path(format) {
    const until = new Date(Date.parse(this.until.value) + DAY_MS).toISOString().slice(0, 10);
    const asked = new URLSearchParams({ since: this.since.value, until, by: this.by.value || "day", format });
    if (this.tenant.value.trim()) asked.set("tenant", this.tenant.value.trim());
    return `admin/usage?${asked}`;
  }

  async load() {
    if (!this.form.reportValidity()) return;
    this.problem.clear();
    setText(this.status, "Asking…");
    try {
      const { rows, totals } = await ask(this.path("json"));
      this.show(this.by.value ? rows : summed(rows), totals);
      const some = "Counted from committed tokens, each once. Times are UTC.";
      setText(this.status, rows.length ? some : "Nothing was used in this period.");
    } catch (error) {
      this.list.replaceChildren();
      setText(this.status, error.isMissing ? "This gateway does not count usage." : "");
      if (!error.isMissing) this.problem.show(error);
    }
  }

  show(rows, totals) {
    const by = this.by.value;
    const columns = by ? ["Start", ...COLUMNS] : COLUMNS;
    const { node, body } = table("Usage by tenant and class", columns, { class: "grid figures" });
    body.append(...rows.map((one) => row(columns, [...(by ? [startOf(one, by)] : []), ...cellsOf(one)])));
    const sums = cellsOf({ ...totals, tenant: by ? "" : "All", class: "" });
    node.append(el("tfoot", {}, row(columns, by ? ["All", ...sums] : sums)));
    this.list.replaceChildren(...(rows.length ? [node] : []));
  }

  async download() {
    if (!this.form.reportValidity()) return;
    this.problem.clear();
    try {
      const response = await request(this.path("csv"));
      save(await response.blob(), `adaserve-usage-${this.since.value}-${this.until.value}.csv`);
    } catch (error) {
      this.problem.show(error);
    }
  }
}

function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A date in UTC so many days from today. */
function day(offset) {
  return new Date(Date.now() + offset * DAY_MS).toISOString().slice(0, 10);
}
