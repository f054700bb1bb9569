// How each verifier decodes and how full it is.

import { fillCells, tableCard } from "./cards.js";
import { el, icon, row, setText } from "./dom.js";
import { modeName, NONE, number, percent, span } from "./format.js";
import { whyText } from "./verdict.js";

const VERIFIER_COLUMNS = ["Verifier", "Mode", "Why", "Requests", "KV memory", "Steps", "Tokens", "Drafter"];

/** How each verifier decodes and how full it is. */
export function verifierTable() {
  let now = 0;
  const card = tableCard({
    title: "Verifiers",
    hint: "How each decodes now, and since when",
    columns: VERIFIER_COLUMNS,
    none: "No verifier is alive.",
    key: (one) => one.name,
    create: createVerifier,
    update: (node, one) => updateVerifier(node, one, now),
  });
  const draw = ({ verifiers, at_ms: at }) => {
    now = at;
    card.draw(verifiers);
  };
  return { node: card.node, draw };
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
  setMode(node.children[1], one.mode);
  const since = one.mode_since_ms ? `since ${span((now - one.mode_since_ms) / 1000)}` : "";
  const why = [whyText(one.mode, one.mode_reason), since].filter(Boolean).join(", ");
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

/** Show another mode in a cell, where it is another. */
export function setMode(cell, mode) {
  if (cell.firstChild?.dataset.mode !== String(mode)) cell.replaceChildren(modeChip(mode));
}
