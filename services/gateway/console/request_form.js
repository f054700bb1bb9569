// The playground's form, and the request that it makes.

import { ask } from "./api.js";
import { el, onlyAscii, setText } from "./dom.js";
import { Target } from "./target.js";

const START = "def fibonacci(n):\n";
const LARGEST = Number.MAX_SAFE_INTEGER;

function field(label, control, hint = null) {
  control.id ||= `f-${label.toLowerCase().replace(/\W+/g, "-")}`;
  const told = hint && el("p", { class: "hint", id: `${control.id}-hint`, text: hint });
  if (told) control.setAttribute("aria-describedby", told.id);
  return el("div", { class: "field" }, el("label", { for: control.id, text: label }), control, told);
}

const numberInput = (props) => el("input", { type: "number", inputmode: "decimal", ...props });

/**
 * @param {(asked: {path: string, body: Object, headers: Object, tpotMs: number|null}) => void} run
 * @param {() => void} stop
 * @returns {{node: HTMLElement, setBusy: (busy: boolean) => void, refresh: () => Promise<void>}}
 */
export function createForm(run, stop) {
  const parts = controls();
  onlyAscii(parts.tenant, "A tenant's name");
  parts.tenant.addEventListener("change", () => refresh(parts)); // each has classes of its own
  const go = el("button", { type: "submit", class: "primary", text: "Run" });
  const halt = el("button", { type: "button", class: "quiet", text: "Stop", disabled: true, on: { click: stop } });
  const submit = (event) => {
    event.preventDefault();
    run(requestOf(parts));
  };
  const onKey = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) node.requestSubmit();
  };
  const props = { class: "card ask", "aria-label": "Request", on: { submit, keydown: onKey } };
  const node = el("form", props, ...fields(parts), el("div", { class: "actions" }, shortcut(), halt, go));
  const setBusy = (busy) => {
    halt.disabled = !busy;
    setText(go, busy ? "Run again" : "Run");
  };
  return { node, setBusy, refresh: () => refresh(parts) };
}

function controls() {
  return {
    prompt: el("textarea", { id: "f-prompt", rows: "7", spellcheck: "false", required: true }, START),
    target: new Target(),
    kind: el(
      "select",
      {},
      el("option", { value: "text", text: "Completion" }),
      el("option", { value: "chat", text: "Chat" }),
    ),
    limit: numberInput({ min: "1", max: "1048576", step: "1", value: "96", required: true }),
    temperature: numberInput({ min: "0", max: "2", step: "any", value: "0", required: true }),
    seed: numberInput({ min: String(-LARGEST), max: String(LARGEST), step: "1", placeholder: "drawn" }),
    speculate: el("input", { type: "checkbox", checked: true }),
    tenant: el("input", { type: "text", autocomplete: "off", spellcheck: "false" }),
  };
}

function fields(parts) {
  const figures = [
    field("As", parts.kind),
    field("Most tokens", parts.limit),
    field("Temperature", parts.temperature),
    field("Seed", parts.seed),
  ];
  const same = el("span", { class: "hint", text: "The tokens are the same with and without" });
  const tenant = field("Name", parts.tenant, "Only where the gateway asks for no key: it is believed then.");
  return [
    field("Prompt", parts.prompt),
    parts.target.node,
    el("div", { class: "fields pairs" }, ...figures),
    el("label", { class: "switch" }, parts.speculate, el("span", { text: "Speculation" }), same),
    tenantDetails(parts.tenant, tenant),
  ];
}

function tenantDetails(input, field) {
  const node = el("details", { class: "more" }, el("summary", { text: "Tenant" }), field);
  input.addEventListener("invalid", () => node.setAttribute("open", "")); // or its fault could not be shown
  return node;
}

function shortcut() {
  return el(
    "p",
    { class: "hint keys-hint" },
    el("kbd", { text: "Ctrl" }),
    " ",
    el("kbd", { text: "Enter" }),
    " runs it",
  );
}

/** What the tenant may choose from; as it was, where the gateway does not tell. */
async function refresh(parts) {
  const headers = tenantHeader(parts);
  const answer = await ask("v1/models", { headers }).catch(() => null);
  if (headers["x-adaserve-tenant"] !== tenantHeader(parts)["x-adaserve-tenant"]) return; // another was named since
  if (answer?.data[0]) parts.target.offer(answer.data[0]);
}

function tenantHeader({ tenant }) {
  return tenant.value.trim() ? { "x-adaserve-tenant": tenant.value.trim() } : {};
}

function requestOf(parts) {
  const isChat = parts.kind.value === "chat";
  const text = parts.prompt.value;
  const slo = parts.target.value;
  const body = {
    model: "default",
    ...(isChat ? { messages: [{ role: "user", content: text }] } : { prompt: text }),
    max_tokens: Number(parts.limit.value),
    temperature: Number(parts.temperature.value),
    ...(parts.seed.value === "" ? {} : { seed: Number(parts.seed.value) }),
    stream: true,
    stream_options: { include_usage: true },
    return_token_ids: true,
    adaserve: { inspect: true, speculation: { enabled: parts.speculate.checked }, ...(slo ? { slo } : {}) },
  };
  const path = isChat ? "v1/chat/completions" : "v1/completions";
  return { path, body, headers: tenantHeader(parts), tpotMs: parts.target.tpotMs };
}
