// Acceptance by depth: a bar for each level of the draft trees.

import { el, keyed, setText, setVars } from "./dom.js";
import { number, percent } from "./format.js";

/** The sums of all verifiers: `[{depth, accepted, rejected}]`, shallow first. */
export function summed(verifiers) {
  const byDepth = new Map();
  for (const one of verifiers.flatMap((verifier) => verifier.acceptance_by_depth ?? [])) {
    const sum = byDepth.get(one.depth) ?? { depth: one.depth, accepted: 0, rejected: 0 };
    sum.accepted += one.accepted;
    sum.rejected += one.rejected;
    byDepth.set(one.depth, sum);
  }
  return [...byDepth.values()].sort((a, b) => a.depth - b.depth);
}

/** The chart's card. */
export class DepthBars {
  constructor() {
    this.list = el("ol", { class: "depths" });
    this.empty = el("p", { class: "chart-empty", text: "No draft was verified in the last ten seconds." });
    this.node = el(
      "figure",
      { class: "chart card" },
      el(
        "figcaption",
        {},
        el("h3", { text: "Acceptance by depth" }),
        el("p", {
          class: "hint",
          text: "Of the drafted tokens that were verified at each depth of the trees, how many were right",
        }),
      ),
      this.list,
      this.empty,
    );
  }

  draw(verifiers) {
    const depths = summed(verifiers).filter((one) => one.accepted + one.rejected > 0);
    this.empty.hidden = depths.length > 0;
    keyed(this.list, depths, (one) => String(one.depth), create, update);
  }
}

function create(one) {
  return el(
    "li",
    {},
    el("span", { class: "depth", text: one.depth >= 8 ? "8+" : String(one.depth) }),
    el("span", { class: "bar", "aria-hidden": "true" }, el("span")),
    el("b"),
    el("span", { class: "hint" }),
  );
}

function update(node, { accepted, rejected }) {
  const share = accepted / (accepted + rejected);
  const [, bar, shown, count] = node.children;
  setVars(bar, { "--share": share });
  setText(shown, percent(share, 0));
  setText(count, `${number(accepted)} of ${number(accepted + rejected)}`);
}
