// A card around a table that grows and shrinks with what there is to tell.

import { el, keyed, setText, table } from "./dom.js";

/**
 * @template T
 * @param {{title: string, hint: string, columns: string[], none: string, tall?: boolean, key: (item: T) => string,
 * create: (item: T) => Element, update?: (row: Element, item: T) => void}} about `none` is said where there are no
 * rows; a tall one scrolls inside; `key`, `create` and `update` as for `keyed`
 * @returns {{node: HTMLElement, draw: (items: T[]) => void}}
 */
export function tableCard({ title, hint, columns, none, tall = false, key, create, update }) {
  const { node: grid, body } = table(title, columns, { class: "grid" });
  const empty = el("p", { class: "hint none", text: none });
  const count = el("span", { class: "count" });
  const heading = el("h2", {}, title, count);
  const head = el("div", { class: "card-head" }, heading, el("p", { class: "hint", text: hint }));
  const holder = el("div", { class: tall ? "scroll tall" : "scroll" }, grid);
  const node = el("section", { class: "card", "aria-label": title }, head, holder, empty);
  const draw = (items) => {
    keyed(body, items, key, create, update);
    setText(count, items.length > 1 ? String(items.length) : "");
    empty.hidden = items.length > 0;
    grid.hidden = items.length === 0;
  };
  return { node, draw };
}

/** Texts of a row's cells; null leaves one as it is. */
export function fillCells(node, texts) {
  texts.forEach((text, i) => text !== null && setText(node.children[i], text));
}
