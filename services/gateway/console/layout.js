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
 * What the target made of the tree is the straight line at the top, its own token at the end; other children follow
 * by probability. A line of first children lies as high as all its columns allow: no edge crosses another.
 * @param {{parent: number, p: number, accepted: boolean}[]} nodes parents before children
 * @param {Object|null} own the target's own token
 * @returns {{placed: Placed[], rows: number, depth: number}}
 */
export function layout(nodes, own = null) {
  const all = own
    ? [...nodes, { ...own, parent: nodes.findLastIndex((node) => node.accepted), isOwn: true }]
    : nodes;
  const children = childrenOf(all);
  const free = []; // the first free row of each depth
  const placed = [];
  const lineOf = (index) => [index, ...(children.has(index) ? lineOf(children.get(index)[0]) : [])];
  const visit = (parent, depth, row) => {
    (children.get(parent) ?? []).forEach((index, i) => {
      const at = i === 0 && parent >= 0 ? row : reserve(free, depth, lineOf(index).length, row + Math.sign(i));
      placed.push({ node: all[index], index, depth, row: at, parent });
      visit(index, depth + 1, at);
    });
  };
  visit(-1, 1, 0);
  return { placed, rows: Math.max(1, ...free), depth: free.length - 1 };
}

function childrenOf(nodes) {
  const children = new Map();
  nodes.forEach((node, index) => children.set(node.parent, [...(children.get(node.parent) ?? []), index]));
  const rank = (node) => (node.isOwn ? 2 : node.accepted ? 1 : 0);
  const order = (a, b) => rank(nodes[b]) - rank(nodes[a]) || nodes[b].p - nodes[a].p;
  for (const siblings of children.values()) siblings.sort(order);
  return children;
}

/** The first row from `row` on that is free for `length` depths; it is taken then. */
function reserve(free, depth, length, row) {
  const columns = Array.from({ length }, (_, i) => depth + i);
  const found = Math.max(row, ...columns.map((column) => free[column] ?? 0));
  for (const column of columns) free[column] = found + 1;
  free[0] ??= 1;
  return found;
}

/** What became of a node: one word, which its shape, colour and label follow. */
export function fateOf(node) {
  if (node.isOwn) return "own";
  if (node.accepted) return "accepted";
  return node.phase ?? "candidate";
}
