// The token tree of one iteration, drawn and as a table.

import { el, row, svg, table } from "./dom.js";
import { chance, number, percent, visible } from "./format.js";
import { fateOf, layout } from "./layout.js";

const WIDTH = 132;
const HEIGHT = 34;
const ROOT = 78; // width of the root
const GAP_X = 38;
const GAP_Y = 12;
const MARGIN = 10;
const MOST = 8; // characters of a token that fit into its node

const FATES = {
  accepted: "accepted",
  slo: "chosen for the SLO",
  throughput: "chosen for throughput",
  candidate: "candidate, not chosen",
  own: "the target's own",
};

/** @returns {{node: HTMLElement, draw: (iteration: Object) => void}} */
export function createTree() {
  const drawing = el("div", { class: "tree scroll", tabindex: "0", role: "region", "aria-label": "Token tree" });
  const legend = Object.entries(FATES).map(([fate, words]) =>
    el("li", {}, sample(fate), el("span", { text: words })),
  );
  const columns = ["Token", "Depth", "After", "Probability", "What became of it"];
  const list = table("Nodes of the token tree", columns, { class: "grid" });
  const node = el(
    "div",
    {},
    el("ul", { class: "legend fates" }, ...legend, el("li", { text: "%: that the text gets there" })),
    drawing,
    el(
      "details",
      { class: "more" },
      el("summary", { text: "The tree as a table" }),
      el("div", { class: "scroll" }, list.node),
    ),
  );
  const draw = (iteration) => {
    drawing.replaceChildren(picture(iteration));
    list.body.replaceChildren(...tableRows(columns, iteration));
  };
  return { node, draw };
}

function sample(fate) {
  return svg(
    "svg",
    { class: "key-node", viewBox: "0 0 26 16", "aria-hidden": "true" },
    svg("g", { class: `node ${fate}` }, shape(fate, 1, 1, 24, 14)),
  );
}

function picture({ nodes, own }) {
  const { placed, rows, depth } = layout(nodes, own);
  const places = new Map(placed.map((one) => [one.index, at(one.depth, one.row)]));
  places.set(-1, at(0, 0));
  const end = at(depth, rows - 1);
  const size = { width: end.end + MARGIN, height: end.y + HEIGHT + MARGIN };
  const edges = placed.map((one) => edge(places.get(one.parent), places.get(one.index), fateOf(one.node)));
  const drawn = placed.map((one) => drawNode(one.node, fateOf(one.node), places.get(one.index), one.depth));
  const label = `Token tree: ${nodes.length} drafted tokens, ${nodes.filter((one) => one.accepted).length} accepted`;
  const view = { ...size, viewBox: `0 0 ${size.width} ${size.height}`, role: "group", "aria-label": label };
  return svg("svg", view, svg("g", { class: "edges" }, ...edges), root(places.get(-1)), ...drawn);
}

function at(depth, line) {
  const x = depth === 0 ? MARGIN : MARGIN + ROOT + GAP_X + (depth - 1) * (WIDTH + GAP_X);
  return { x, y: MARGIN + line * (HEIGHT + GAP_Y), end: x + (depth === 0 ? ROOT : WIDTH) };
}

function edge(from, to, fate) {
  const [x1, y1, x2, y2] = [from.end, from.y + HEIGHT / 2, to.x, to.y + HEIGHT / 2];
  const middle = (x1 + x2) / 2;
  return svg("path", { class: `edge ${fate}`, d: `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}` });
}

function root({ x, y }) {
  return svg(
    "g",
    { class: "node root" },
    svg("rect", { x, y, width: ROOT, height: HEIGHT, rx: HEIGHT / 2 }),
    svg("text", { x: x + ROOT / 2, y: y + HEIGHT / 2, class: "word middle" }, "context"),
  );
}

/** A box by what a node was chosen for; the target's own is round. */
function shape(kind, x, y, width, height) {
  if (kind !== "throughput")
    return svg("rect", { x, y, width, height, rx: kind === "own" ? height / 2 : height / 6 });
  const cut = height / 3;
  const [right, bottom, middle] = [x + width, y + height, y + height / 2];
  const corners = `M${x + cut} ${y}H${right - cut}L${right} ${middle}L${right - cut} ${bottom}H${x + cut}L${x} ${middle}Z`;
  return svg("path", { class: "box", d: corners });
}

function wordsOf(node) {
  const fate = fateOf(node);
  return fate === "accepted" && node.phase ? `accepted, ${FATES[node.phase]}` : FATES[fate];
}

function drawNode(node, fate, { x, y }, depth) {
  const word = visible(node.text);
  const shown = word.length > MOST ? `${word.slice(0, MOST - 1)}…` : word;
  const share = node.p === undefined ? "" : chance(node.p);
  const label = `“${visible(node.text)}”, depth ${depth}${share ? `, ${share}` : ""}: ${wordsOf(node)}`;
  return svg(
    "g",
    { class: `node ${fate}`, tabindex: "0", role: "img", "aria-label": label },
    svg("title", {}, label),
    shape(fate === "accepted" ? node.phase : fate, x, y, WIDTH, HEIGHT),
    svg("text", { x: x + 12, y: y + HEIGHT / 2, class: "word" }, `${fate === "accepted" ? "✓ " : ""}${shown}`),
    svg("text", { x: x + WIDTH - 10, y: y + HEIGHT / 2, class: "share" }, share),
  );
}

function tableRows(columns, { nodes, own }) {
  const depths = [];
  const rows = nodes.map((node, i) => {
    depths[i] = node.parent < 0 ? 1 : depths[node.parent] + 1;
    const before = node.parent < 0 ? "context" : visible(nodes[node.parent].text);
    return row(columns, [
      el("code", { text: visible(node.text) }),
      number(depths[i]),
      el("code", { text: before }),
      percent(node.p),
      wordsOf(node),
    ]);
  });
  const last = nodes.findLastIndex((node) => node.accepted);
  if (own)
    rows.push(
      row(columns, [
        el("code", { text: visible(own.text) }),
        number(last < 0 ? 1 : depths[last] + 1),
        el("code", { text: last < 0 ? "context" : visible(nodes[last].text) }),
        "–",
        FATES.own,
      ]),
    );
  return rows;
}
