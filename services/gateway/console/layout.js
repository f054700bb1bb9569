// Where the nodes of a token tree stand: a column for each depth, a row for each leaf. Pure.

/**
 * @typedef {Object} Placed
 * @property {Object} node as told by `inspect`
 * @property {number} index
 * @property {number} depth 1 for children of the root
 * @property {number} row
 * @property {number} parent -1 for the root
 */

/**
 * Accepted children come first, so that what was accepted is the straight line at the top; then by probability.
 * @param {{parent: number, p: number, accepted: boolean}[]} nodes parents before children
 * @returns {{placed: Placed[], rows: number, depth: number}}
 */
export function layout(nodes) {
  const children = new Map();
  nodes.forEach((node, index) => {
    const siblings = children.get(node.parent) ?? [];
    siblings.push(index);
    children.set(node.parent, siblings);
  });
  const placed = [];
  let rows = 0;
  let depth = 0;
  const order = (a, b) => Number(nodes[b].accepted) - Number(nodes[a].accepted) || nodes[b].p - nodes[a].p;
  const visit = (parent, level, row) => {
    (children.get(parent) ?? []).sort(order).forEach((index, i) => {
      const own = i === 0 ? row : rows;
      rows = Math.max(rows, own + 1);
      depth = Math.max(depth, level);
      placed.push({ node: nodes[index], index, depth: level, row: own, parent });
      visit(index, level + 1, own);
    });
  };
  visit(-1, 1, 0);
  return { placed, rows: Math.max(rows, 1), depth };
}

/** What became of a node: one word, which its shape, colour and label follow. */
export function fateOf(node) {
  if (node.accepted) return "accepted";
  return node.phase ?? "candidate";
}
