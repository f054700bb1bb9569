// Each class's attainment against its objective.

import { fillCells, tableCard } from "./cards.js";
import { el, icon, row, setText, setVars } from "./dom.js";
import { ms, number, percent } from "./format.js";
import { standing } from "./verdict.js";

const CLASS_COLUMNS = ["Class", "Attainment", "Objective", "TPOT target", "Requests", "Goodput"];

/** Each class's attainment against its objective. */
export function classTable() {
  const card = tableCard({
    title: "Promises",
    hint: "Requests that ended at this gateway in the last five minutes",
    columns: CLASS_COLUMNS,
    none: "No request with a target has ended in the last five minutes.",
    key: (one) => one.name,
    create: createClass,
    update: updateClass,
  });
  return { node: card.node, draw: ({ classes }) => card.draw(classes) };
}

function createClass(one) {
  const bar = el("span", { class: "bullet", "aria-hidden": "true" }, el("span"), el("i"));
  const attained = el("span", { class: "attained" }, el("span", { class: "state" }), el("b"), bar);
  return row(CLASS_COLUMNS, [el("span", { class: "name", text: one.name }), attained, "", "", "", ""]);
}

function updateClass(node, one) {
  const [state, shown, bar] = node.children[1].firstChild.children;
  const level = standing(one);
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
