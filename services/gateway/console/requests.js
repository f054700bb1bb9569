// Running requests, least slack first.

import { fillCells, tableCard } from "./cards.js";
import { announce, el, icon, row, setText } from "./dom.js";
import { ms, NONE, number, shortId } from "./format.js";
import { slackOf } from "./verdict.js";

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
