// Tables of the overview: classes against their objectives, verifiers, running requests.

import { announce, el, icon, keyed, row, setText, setVars, table } from "./dom.js";
import { modeName, ms, NONE, number, percent, shortId, span } from "./format.js";
import { isMissed, reasonText, slackOf } from "./verdict.js";

/** A card around a table that says so when it has no rows. */
function card(title, hint, columns, none, fill, scroll = "scroll") {
  const { node: grid, body } = table(title, columns, { class: "grid" });
  const empty = el("p", { class: "hint none", text: none });
  const count = el("span", { class: "count" });
  const heading = el(
    "div",
    { class: "card-head" },
    el("h2", {}, title, count),
    el("p", { class: "hint", text: hint }),
  );
  const node = el(
    "section",
    { class: "card", "aria-label": title },
    heading,
    el("div", { class: scroll }, grid),
    empty,
  );
  const draw = (snapshot) => {
    const length = fill(body, snapshot, count);
    empty.hidden = length > 0;
    grid.hidden = length === 0;
  };
  return { node, draw };
}

function fillCells(node, texts) {
  texts.forEach((text, i) => text !== null && setText(node.children[i], text));
}

const CLASS_COLUMNS = ["Class", "Attainment", "Objective", "TPOT target", "Requests", "Goodput"];

/** Each class's attainment against its objective. */
export function classTable() {
  return card(
    "Promises",
    "Requests that ended at this gateway in the last five minutes",
    CLASS_COLUMNS,
    "No request with a target has ended in the last five minutes.",
    (body, { classes }) => {
      keyed(body, classes, (one) => one.name, createClass, updateClass);
      return classes.length;
    },
  );
}

function createClass(one) {
  const bar = el("span", { class: "bullet", "aria-hidden": "true" }, el("span"), el("i"));
  const attained = el("span", { class: "attained" }, el("span", { class: "state" }), el("b"), bar);
  return row(CLASS_COLUMNS, [el("span", { class: "name", text: one.name }), attained, "", "", "", ""]);
}

function updateClass(node, one) {
  const [state, shown, bar] = node.children[1].firstChild.children;
  const level = one.attainment === null ? "idle" : isMissed(one) ? "bad" : "ok";
  if (state.dataset.level !== level) {
    state.dataset.level = level;
    state.replaceChildren(
      icon(level),
      el("span", {
        class: "visually-hidden",
        text: { ok: "kept", bad: "missed", idle: "nothing to tell" }[level],
      }),
    );
  }
  setText(shown, percent(one.attainment));
  bar.dataset.level = level;
  setVars(bar, { "--share": one.attainment ?? 0, "--mark": one.objective ?? 0 });
  bar.lastChild.hidden = one.objective === null;
  fillCells(node, [
    null,
    null,
    one.objective === null ? "none" : percent(one.objective, (one.objective * 1000) % 10 ? 1 : 0),
    ms(one.tpot_ms),
    number(one.requests),
    `${number(one.goodput_tokens_per_s, 1)} tok/s`,
  ]);
}

const VERIFIER_COLUMNS = ["Verifier", "Mode", "Why", "Requests", "KV memory", "Steps", "Tokens", "Drafter"];

/** How each verifier decodes and how full it is. */
export function verifierTable() {
  return card(
    "Verifiers",
    "How each decodes now, and since when",
    VERIFIER_COLUMNS,
    "No verifier is alive.",
    (body, { verifiers, at_ms: now }, count) => {
      setText(count, verifiers.length > 1 ? String(verifiers.length) : "");
      keyed(
        body,
        verifiers,
        (one) => one.name,
        createVerifier,
        (node, one) => updateVerifier(node, one, now),
      );
      return verifiers.length;
    },
  );
}

function createVerifier(one) {
  const kv = el("span", { class: "with-bar" }, el("b"), el("progress", { max: "1", "aria-hidden": "true" }));
  return row(VERIFIER_COLUMNS, [
    el("span", { class: "name", text: one.name }),
    modeChip(one.mode),
    "",
    "",
    kv,
    "",
    "",
    "",
  ]);
}

function updateVerifier(node, one, now) {
  const chip = node.children[1].firstChild;
  if (chip.dataset.mode !== String(one.mode)) node.children[1].replaceChildren(modeChip(one.mode));
  const since = one.mode_since_ms ? `since ${span((now - one.mode_since_ms) / 1000)}` : "";
  const why = [reasonText(one.mode_reason), since].filter(Boolean).join(", ");
  const [shown, bar] = node.children[4].firstChild.children;
  setText(shown, one.kv_total ? percent(one.kv_used / one.kv_total, 0) : NONE);
  bar.value = one.kv_total ? one.kv_used / one.kv_total : 0;
  const requests = `${number(one.running)} running, ${number(one.waiting)} waiting${one.prefilling ? `, ${number(one.prefilling)} prefilling` : ""}`;
  fillCells(node, [
    null,
    null,
    why || NONE,
    requests,
    null,
    `${number(one.steps_per_s, 1)}/s`,
    `${number(one.tokens_per_s)}/s`,
    one.drafter ?? "none",
  ]);
}

/** A mode with a shape of its own. */
export function modeChip(mode) {
  const level = mode === "speculative" ? "ok" : mode ? "warn" : "idle";
  return el(
    "span",
    { class: "chip", data: { level, mode: String(mode) } },
    icon(level),
    el("span", { text: modeName(mode) }),
  );
}

const REQUEST_COLUMNS = ["Request", "Slack", "Class", "Tenant", "State", "TPOT", "Tokens", "Verifier"];

/** Running requests, least slack first. */
export function requestTable() {
  return card(
    "Running requests",
    "Least slack first: how far each is ahead of its target, or behind",
    REQUEST_COLUMNS,
    "Nothing is running.",
    (body, { requests }, count) => {
      setText(count, requests.length ? String(requests.length) : "");
      keyed(body, requests, (one) => one.id, createRequest, updateRequest);
      return requests.length;
    },
    "scroll tall",
  );
}

function createRequest(one) {
  const copy = async () => {
    await navigator.clipboard?.writeText(one.id).then(
      () => announce(`Copied ${one.id}`),
      () => announce("Copying is not allowed here"),
    );
  };
  const button = el(
    "button",
    {
      type: "button",
      class: "copy",
      "aria-label": `Copy the id ${shortId(one.id)}`,
      title: one.id,
      on: { click: copy },
    },
    icon("copy"),
  );
  const name = el("span", { class: "id" }, el("code", { text: shortId(one.id) }), button);
  return row(REQUEST_COLUMNS, [name, el("span", { class: "slack" }), "", "", "", "", "", ""]);
}

function updateRequest(node, one) {
  const slack = slackOf(one);
  const cell = node.children[1].firstChild;
  if (cell.dataset.level !== slack.level) {
    cell.dataset.level = slack.level;
    cell.replaceChildren(icon(slack.level), el("span"));
  }
  setText(cell.lastChild, slack.text);
  const pace = one.tpot_target_ms ? `${ms(one.tpot_ms)} of ${ms(one.tpot_target_ms)}` : ms(one.tpot_ms);
  fillCells(node, [
    null,
    null,
    one.class,
    one.tenant,
    one.state,
    pace,
    number(one.output_tokens),
    one.verifier ?? NONE,
  ]);
}
