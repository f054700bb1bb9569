// What tenants have used, by class, over a period.

import { ask, request } from "./api.js";
import { el, icon, row, setText, table } from "./dom.js";
import { number, percent } from "./format.js";
import { Problem } from "./problem.js";

const COLUMNS = [
  "Tenant",
  "Class",
  "Requests",
  "Prompt tokens",
  "Of these cached",
  "Output tokens",
  "Drafted",
  "Accepted",
  "Target steps",
  "Met",
];
const SUMS = [
  "requests",
  "prompt_tokens",
  "cached_tokens",
  "output_tokens",
  "drafted_tokens",
  "accepted_tokens",
  "steps",
  "met",
  "missed",
];
const DAY_MS = 86_400_000;

/**
 * @param {HTMLElement} section
 * @returns {{show: () => void}}
 */
export function createUsage(section) {
  const page = new UsagePage();
  section.replaceChildren(el("h1", { id: "title-usage", class: "visually-hidden", text: "Usage" }), page.node);
  return { show: () => page.load() };
}

class UsagePage {
  constructor() {
    this.problem = new Problem();
    this.since = el("input", { id: "u-since", type: "date", required: true });
    this.until = el("input", { id: "u-until", type: "date", required: true });
    this.tenant = el("input", {
      id: "u-tenant",
      type: "text",
      placeholder: "all",
      autocomplete: "off",
      spellcheck: "false",
    });
    this.by = el(
      "select",
      { id: "u-by" },
      el("option", { value: "", text: "the whole period" }),
      el("option", { value: "day", text: "day" }),
      el("option", { value: "hour", text: "hour" }),
    );
    this.since.value = day(-6);
    this.until.value = day(0);
    const download = el(
      "button",
      { type: "button", class: "quiet", on: { click: () => this.download() } },
      icon("down"),
      "CSV",
    );
    const field = (label, control) =>
      el("div", { class: "field" }, el("label", { for: control.id, text: label }), control);
    const form = el(
      "form",
      {
        class: "card period",
        "aria-label": "Period",
        on: {
          submit: (event) => {
            event.preventDefault();
            this.load();
          },
        },
      },
      field("From", this.since),
      field("To, inclusive", this.until),
      field("Tenant", this.tenant),
      field("By", this.by),
      el("div", { class: "actions" }, download, el("button", { type: "submit", class: "primary", text: "Show" })),
    );
    this.status = el("p", { class: "hint", role: "status" });
    this.list = el("div", { class: "scroll" });
    this.node = el(
      "div",
      { class: "stack" },
      form,
      this.problem.node,
      el(
        "section",
        { class: "card", "aria-label": "Usage by tenant and class" },
        el("div", { class: "card-head" }, el("h2", { text: "Usage" }), this.status),
        this.list,
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
    this.problem.clear();
    setText(this.status, "Asking…");
    try {
      const found = await ask(this.path("json"));
      this.show(this.by.value ? found.rows : summed(found.rows), found.totals);
      setText(
        this.status,
        found.rows.length
          ? "Counted from committed tokens, each once. Times are UTC."
          : "Nothing was used in this period.",
      );
    } catch (error) {
      this.list.replaceChildren();
      setText(this.status, error.isMissing ? "This gateway does not count usage." : "");
      if (!error.isMissing) this.problem.show(error);
    }
  }

  show(rows, totals) {
    const columns = this.by.value ? ["Start", ...COLUMNS] : COLUMNS;
    const { node, body } = table("Usage by tenant and class", columns, { class: "grid figures" });
    body.append(
      ...rows.map((one) =>
        row(columns, [...(this.by.value ? [start(one.start, this.by.value)] : []), ...cells(one)]),
      ),
    );
    if (rows.length) {
      const sum = cells({ ...totals, tenant: "All", class: "" });
      node.append(
        el("tfoot", {}, row(columns, [...(this.by.value ? [sum.shift(), ""] : [sum.shift()]), ...sum.slice(0)])),
      );
    }
    this.list.replaceChildren(...(rows.length ? [node] : []));
  }

  async download() {
    this.problem.clear();
    try {
      const response = await request(this.path("csv"));
      const url = URL.createObjectURL(await response.blob());
      const link = el("a", { href: url, download: `adaserve-usage-${this.since.value}-${this.until.value}.csv` });
      document.body.append(link);
      link.click();
      link.remove();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    } catch (error) {
      this.problem.show(error);
    }
  }
}

/** A date in UTC so many days from today. */
function day(offset) {
  return new Date(Date.now() + offset * DAY_MS).toISOString().slice(0, 10);
}

function start(text, by) {
  return by === "hour" ? text.slice(0, 16).replace("T", " ") : text.slice(0, 10);
}

function cells(one) {
  const told = one.met + one.missed;
  const counts = [
    "requests",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "drafted_tokens",
    "accepted_tokens",
    "steps",
  ];
  return [one.tenant, one.class, ...counts.map((name) => number(one[name])), told ? percent(one.met / told) : "–"];
}

/** One row for each tenant and class. */
function summed(rows) {
  const found = new Map();
  for (const one of rows) {
    const key = JSON.stringify([one.tenant, one.class]);
    const sum = found.get(key) ?? {
      tenant: one.tenant,
      class: one.class,
      ...Object.fromEntries(SUMS.map((name) => [name, 0])),
    };
    for (const name of SUMS) sum[name] += one[name];
    found.set(key, sum);
  }
  return [...found.values()].sort((a, b) => b.output_tokens - a.output_tokens);
}
