// Running requests, least slack first.

import { fillCells, tableCard } from "./cards.js";
import { announce, el, icon, row, setText } from "./dom.js";
import { ms, NONE, number, shortId } from "./format.js";
import { slackOf } from "./verdict.js";

const COPIED_MS = 1500;
const REQUEST_COLUMNS = ["Request", "Slack", "Class", "Tenant", "State", "TPOT", "Tokens", "Verifier"];

/** Running requests, least slack first. */
export function requestTable() {
  const card = tableCard({
    title: "Running requests",
    hint: "Least slack first: how far each is ahead of its target, or behind",
    columns: REQUEST_COLUMNS,
    none: "Nothing is running.",
    tall: true,
    key: (one) => one.id,
    create: createRequest,
    update: updateRequest,
  });
  return { node: card.node, draw: ({ requests }) => card.draw(requests) };
}

function createRequest(one) {
  const shown = el("code", { text: shortId(one.id) });
  const label = `Copy the id ${shortId(one.id)}`;
  const props = { type: "button", class: "copy", "aria-label": label, title: one.id };
  const button = el("button", props, icon("copy"));
  button.addEventListener("click", () => copy(one.id, shown, button));
  const name = el("span", { class: "id" }, shown, button);
  return row(REQUEST_COLUMNS, [name, el("span", { class: "slack" }), "", "", "", "", "", ""]);
}

/** To the clipboard; where there is none (plain HTTP from another machine) the whole id is shown and selected. */
async function copy(id, shown, button) {
  try {
    await navigator.clipboard.writeText(id);
    announce(`Copied ${id}`);
    button.replaceChildren(icon("ok"));
    setTimeout(() => button.replaceChildren(icon("copy")), COPIED_MS);
  } catch {
    setText(shown, id);
    getSelection().selectAllChildren(shown);
  }
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
