// Elements are made of nodes and text, never of markup: what a model or a tenant wrote stays text.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element.
 * @param {string} tag
 * @param {Object} [props] `class`, `text`, `on` (listeners by event), `vars` (custom properties), `data`; attributes
 * otherwise, where null and false mean none and true an empty one.
 * @param {...(Node|string|null|undefined)} children
 * @returns {HTMLElement}
 */
export function el(tag, props = {}, ...children) {
  return filled(document.createElement(tag), props, children);
}

/** An SVG element; arguments as for `el`. */
export function svg(tag, props = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), props, children);
}

function filled(node, props, children) {
  for (const [name, value] of Object.entries(props)) set(node, name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function set(node, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name === "class") node.setAttribute("class", value);
  else if (name === "text") node.textContent = value;
  else if (name === "on")
    for (const [event, listen] of Object.entries(value)) node.addEventListener(event, listen);
  else if (name === "vars") setVars(node, value);
  else if (name === "data") Object.assign(node.dataset, value);
  else node.setAttribute(name, value === true ? "" : String(value));
}

/** Set custom properties, which the content policy allows from scripts. */
export function setVars(node, vars) {
  for (const [name, value] of Object.entries(vars)) node.style.setProperty(name, String(value));
}

/** An icon of the page's sprite, hidden from screen readers. */
export function icon(name) {
  return svg("svg", { class: "icon", "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));
}

/** Let a text field refuse what no HTTP header can carry, in words; `what` begins the sentence. */
export function onlyAscii(input, what) {
  const check = () => {
    const isPlain = /^[\x21-\x7e]*$/.test(input.value.trim());
    input.setCustomValidity(isPlain ? "" : `${what} has letters, digits and signs of ASCII only, and no blank.`);
  };
  input.addEventListener("input", check);
}

/** Set a node's text only where it changes, so that selections and screen readers are left in peace. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const made = new WeakMap();

/**
 * Make a parent's children those of the items, reusing nodes by key and keeping the focus inside.
 * @template T
 * @param {Element} parent
 * @param {T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => Element} create
 * @param {(node: Element, item: T) => void} [update]
 */
export function keyed(parent, items, keyOf, create, update = () => {}) {
  const before = made.get(parent) ?? new Map();
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const now = new Map();
  for (const item of items) {
    const node = before.get(keyOf(item)) ?? create(item);
    now.set(keyOf(item), node);
    update(node, item);
  }
  made.set(parent, now);
  const wanted = [...now.values()];
  if (wanted.length !== parent.childNodes.length || wanted.some((node, i) => parent.childNodes[i] !== node)) {
    parent.replaceChildren(...wanted);
    if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
  }
}

/** Say something to screen readers. */
export function announce(text) {
  setText(document.getElementById("announcer"), text);
}

/**
 * A table row of cells; each cell a string or node, labelled by its column for narrow screens.
 * @param {string[]} columns
 * @param {(string|Node)[]} cells the first becomes the row's header
 */
export function row(columns, cells, props = {}) {
  const made = cells.map((cell, i) =>
    el(i ? "td" : "th", { scope: i ? null : "row", data: { label: columns[i] } }, cell),
  );
  return el("tr", props, ...made);
}

/** A table with a caption for screen readers; gives the table and its body. */
export function table(caption, columns, props = {}) {
  const body = el("tbody");
  const heads = columns.map((name) => el("th", { scope: "col", text: name }));
  const node = el(
    "table",
    props,
    el("caption", { class: "visually-hidden", text: caption }),
    el("thead", {}, el("tr", {}, ...heads)),
    body,
  );
  return { node, body };
}
