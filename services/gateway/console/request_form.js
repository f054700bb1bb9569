// The playground's form, and the request that it makes.

import { ask } from "./api.js";
import { el, setText, setVars } from "./dom.js";
import { ms } from "./format.js";

const FASTEST_MS = 2;
const SLOWEST_MS = 500;
const STEPS = 200;
const START = "def fibonacci(n):\n";

/** Slider steps are equal factors, for a millisecond matters more at 5 than at 300. */
export function tpotAt(step) {
  const value = FASTEST_MS * (SLOWEST_MS / FASTEST_MS) ** (step / STEPS);
  return Number(value.toPrecision(value < 10 ? 2 : 3));
}

/** Where on the slider a TPOT stands, from 0 to 1. */
export function shareOf(tpotMs) {
  return Math.log(tpotMs / FASTEST_MS) / Math.log(SLOWEST_MS / FASTEST_MS);
}

function field(label, control, hint = null) {
  control.id ||= `f-${label.toLowerCase().replace(/\W+/g, "-")}`;
  return el(
    "div",
    { class: "field" },
    el("label", { for: control.id, text: label }),
    control,
    hint && el("p", { class: "hint", text: hint }),
  );
}

const numberInput = (props) => el("input", { type: "number", inputmode: "decimal", ...props });
const option = (value, text) => el("option", { value, text });

/**
 * @param {(asked: {path: string, body: Object, headers: Object, target: number|null}) => void} run
 * @param {() => void} stop
 * @returns {{node: HTMLElement, setBusy: (busy: boolean) => void, refresh: () => Promise<void>}}
 */
export function createForm(run, stop) {
  const parts = controls();
  const go = el("button", { type: "submit", class: "primary", text: "Run" });
  const halt = el("button", { type: "button", class: "quiet", text: "Stop", disabled: true, on: { click: stop } });
  const form = el(
    "form",
    { class: "card ask", "aria-label": "Request", on: { submit: (event) => submit(event, parts, run) } },
    field("Prompt", parts.prompt),
    slo(parts),
    el(
      "div",
      { class: "fields pairs" },
      field("As", parts.kind),
      field("Most tokens", parts.limit),
      field("Temperature", parts.temperature),
      field("Seed", parts.seed),
    ),
    el(
      "label",
      { class: "switch" },
      parts.speculate,
      el("span", { text: "Speculation" }),
      el("span", { class: "hint", text: "The tokens are the same with and without" }),
    ),
    el(
      "details",
      { class: "more" },
      el("summary", { text: "Tenant" }),
      field("Tenant", parts.tenant, "Only where the gateway asks for no key: it is believed then."),
    ),
    el(
      "div",
      { class: "actions" },
      el(
        "p",
        { class: "hint keys-hint" },
        el("kbd", { text: "Ctrl" }),
        " ",
        el("kbd", { text: "Enter" }),
        " runs it",
      ),
      halt,
      go,
    ),
  );
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  const setBusy = (busy) => {
    halt.disabled = !busy;
    setText(go, busy ? "Run again" : "Run");
  };
  return { node: form, setBusy, refresh: () => offers(parts) };
}

function controls() {
  return {
    prompt: el("textarea", { id: "f-prompt", rows: "7", spellcheck: "false", required: true }, START),
    kind: el("select", {}, option("text", "Completion"), option("chat", "Chat")),
    limit: numberInput({ min: "1", max: "1048576", step: "1", value: "96", required: true }),
    temperature: numberInput({ min: "0", max: "2", step: "any", value: "0", required: true }),
    seed: numberInput({ step: "1", placeholder: "drawn" }),
    speculate: el("input", { type: "checkbox", checked: true }),
    tenant: el("input", { type: "text", autocomplete: "off", spellcheck: "false" }),
    source: el(
      "select",
      { id: "f-target" },
      option("custom", "A pace of my own"),
      option("none", "None: best effort"),
    ),
    slider: el("input", { type: "range", id: "f-tpot", min: "0", max: String(STEPS), step: "1", value: "100" }),
    shown: el("output", { for: "f-tpot", class: "figure" }),
    marks: el("div", { class: "marks" }),
  };
}

function slo(parts) {
  const told = el("p", { class: "hint" });
  const pick = el(
    "div",
    { class: "pace-pick" },
    el("div", { class: "range" }, parts.slider, parts.marks),
    el("p", { class: "pace-words" }, parts.shown, el("span", { class: "hint", text: "per token, at most" })),
  );
  const draw = () => {
    const value = tpotAt(Number(parts.slider.value));
    setText(parts.shown, ms(value));
    parts.slider.setAttribute("aria-valuetext", `${ms(value)} per token`);
    pick.hidden = parts.source.value !== "custom";
    setText(told, toldOf(parts));
  };
  parts.slider.addEventListener("input", draw);
  parts.source.addEventListener("change", draw);
  parts.redraw = draw;
  draw();
  const label = el("label", { for: "f-target", text: "Target" });
  const own = el("label", { for: "f-tpot", class: "visually-hidden", text: "Time per output token" });
  return el(
    "fieldset",
    { class: "slo" },
    el("legend", { class: "visually-hidden", text: "Target" }),
    label,
    parts.source,
    own,
    pick,
    told,
  );
}

function toldOf(parts) {
  const { source, offered, zeroLoad } = parts;
  const one = offered?.find((offer) => `class:${offer.class}` === source.value);
  if (one) return one.tpot_ms === null ? "This class has no target for TPOT." : `${ms(one.tpot_ms)} per token.`;
  if (source.value === "none") return "It gets what others leave.";
  return zeroLoad ? `Without speculation an idle server takes ${ms(zeroLoad)} per token (the mark).` : "";
}

/** Classes of the tenant, and how fast an idle server is. */
async function offers(parts) {
  const headers = parts.tenant.value ? { "x-adaserve-tenant": parts.tenant.value } : {};
  const model = await ask("v1/models", { headers }).then(
    (answer) => answer.data[0],
    () => null,
  );
  if (model === null) return;
  parts.offered = model.slo_classes;
  parts.zeroLoad = model.zero_load_ms ?? null;
  if (parts.marks.childElementCount === 0) startAt(parts, parts.zeroLoad);
  const chosen = parts.source.value;
  const classes = model.slo_classes.map((one) =>
    option(`class:${one.class}`, `Class ${one.class}${one.is_default ? " (default)" : ""}`),
  );
  parts.source.replaceChildren(
    parts.source.options[0],
    ...classes,
    parts.source.options[parts.source.options.length - 1],
  );
  parts.source.value = chosen;
  const marks = parts.zeroLoad ? [mark("idle pace", parts.zeroLoad)] : [];
  parts.marks.replaceChildren(...marks);
  parts.redraw();
}

/** A target that is worth something: a little faster than without speculation. */
function startAt(parts, zeroLoad) {
  if (zeroLoad) parts.slider.value = String(Math.round(shareOf(zeroLoad * 0.8) * STEPS));
}

function mark(name, tpotMs) {
  const node = el("span", { class: "slider-mark", title: `${name}: ${ms(tpotMs)}` }, el("span", { text: name }));
  setVars(node, { "--at": Math.min(1, Math.max(0, shareOf(tpotMs))) });
  return node;
}

function submit(event, parts, run) {
  event.preventDefault();
  const isChat = parts.kind.value === "chat";
  const words = isChat
    ? { messages: [{ role: "user", content: parts.prompt.value }] }
    : { prompt: parts.prompt.value };
  const headers = parts.tenant.value ? { "x-adaserve-tenant": parts.tenant.value } : {};
  const { slo: targets, target } = chosenTarget(parts);
  const body = {
    model: "default",
    ...words,
    max_tokens: Number(parts.limit.value),
    temperature: Number(parts.temperature.value),
    ...(parts.seed.value === "" ? {} : { seed: Number(parts.seed.value) }),
    stream: true,
    stream_options: { include_usage: true },
    return_token_ids: true,
    adaserve: {
      inspect: true,
      speculation: { enabled: parts.speculate.checked },
      ...(targets ? { slo: targets } : {}),
    },
  };
  run({ path: isChat ? "v1/chat/completions" : "v1/completions", body, headers, target });
}

function chosenTarget({ source, slider, offered }) {
  if (source.value === "none") return { slo: null, target: null };
  if (source.value === "custom") {
    const tpot = tpotAt(Number(slider.value));
    return { slo: { tpot_ms: tpot }, target: tpot };
  }
  const name = source.value.slice("class:".length);
  return { slo: { class: name }, target: offered.find((one) => one.class === name)?.tpot_ms ?? null };
}
