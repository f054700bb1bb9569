// The view that answers in one glance whether everything is all right.

import { DepthBars } from "./depths.js";
import { el, icon, keyed, setText } from "./dom.js";
import { bytes, number, percent, plural, span } from "./format.js";
import { Figures } from "./figures.js";
import { classTable, requestTable, verifierTable } from "./tables.js";
import { verdict } from "./verdict.js";

/**
 * @param {HTMLElement} section
 * @param {import("./live.js").Live} live
 * @returns {{show: () => void}}
 */
export function createOverview(section, live) {
  const head = headline();
  const tiles = el("dl", { class: "tiles" });
  const classes = classTable();
  const verifiers = verifierTable();
  const requests = requestTable();
  const figures = new Figures();
  const depths = new DepthBars();
  const body = el(
    "div",
    { class: "stack" },
    head.node,
    classes.node,
    tiles,
    verifiers.node,
    el("h2", { class: "group", text: "The last ten minutes" }),
    el("div", { class: "charts" }, ...figures.nodes, depths.node),
    requests.node,
  );
  const empty = emptyState();
  section.replaceChildren(
    el("h1", { id: "title-overview", class: "visually-hidden", text: "Overview" }),
    empty.node,
    body,
  );

  const draw = () => {
    if (section.hidden) return;
    const { snapshot } = live;
    empty.node.hidden = snapshot !== null;
    body.hidden = snapshot === null;
    body.classList.toggle("stale", live.state !== "live");
    if (snapshot === null) return empty.draw(live);
    head.draw(snapshot, live.state);
    drawTiles(tiles, snapshot);
    for (const one of [classes, verifiers, requests]) one.draw(snapshot);
    figures.draw(live);
    depths.draw(snapshot.verifiers);
    return undefined;
  };
  live.listen(draw);
  return { show: draw };
}

function headline() {
  const mark = el("span", { class: "mark" });
  const title = el("h2", { class: "verdict" });
  const subtitle = el("p", { class: "hint" });
  const findings = el("ul", { class: "findings" });
  const told = el("div", {}, el("div", { role: "status" }, title), subtitle, findings);
  const node = el("div", { class: "headline" }, mark, told);
  let level = "";
  const draw = (snapshot, state) => {
    const found = verdict(snapshot);
    const shown = state === "live" ? found.level : "idle";
    if (shown !== level) {
      level = shown;
      node.dataset.level = level;
      mark.replaceChildren(icon(level));
    }
    setText(title, state === "live" ? found.title : "As it last was");
    setText(subtitle, summary(snapshot));
    keyed(findings, found.findings, (one) => one.text, finding);
    findings.hidden = !found.findings.length;
  };
  return { node, draw };
}

function finding(one) {
  return el("li", { data: { level: one.level } }, icon(one.level), el("span", { text: one.text }));
}

function summary({ verifiers, drafters, gateways, cell }) {
  const running = total(verifiers, "running");
  const speed = total(verifiers, "tokens_per_s");
  const who = `${plural(verifiers.length, "verifier")}, ${plural(drafters.length, "drafter")}, ${plural(gateways.length, "gateway")}`;
  return `${number(running)} running at ${number(speed)} tokens/s in cell ${cell}: ${who}`;
}

/** The sum of a figure over verifiers; null where none tells it. */
export function total(verifiers, name) {
  const known = verifiers.map((one) => one[name]).filter((value) => typeof value === "number");
  return known.length ? known.reduce((sum, value) => sum + value, 0) : null;
}

function drawTiles(node, snapshot) {
  const { verifiers, queue, redis } = snapshot;
  const used = total(verifiers, "kv_used");
  const all = total(verifiers, "kv_total");
  const waiting = queue.tiers.reduce((sum, tier) => sum + tier.waiting, 0);
  const oldest = Math.max(0, ...queue.tiers.map((tier) => tier.oldest_s ?? 0));
  const tiers = queue.tiers
    .filter((tier) => tier.waiting)
    .map((tier) => `tier ${tier.tier}: ${number(tier.waiting)}`)
    .join(", ");
  const tile = (name, value, more, share = null) => ({ name, value, more, share });
  const found = [
    tile(
      "KV memory",
      all ? percent(used / all, 0) : "–",
      all ? `${number(used)} of ${number(all)} tokens` : "no verifier tells",
      all ? used / all : null,
    ),
    tile(
      "Queue",
      number(waiting),
      waiting ? `${tiers}; the oldest for ${span(oldest)}` : "nothing waits in any tier",
    ),
    tile(
      "Redis memory",
      bytes(redis.used_bytes),
      redis.max_bytes ? `of ${bytes(redis.max_bytes)}` : "no limit is set",
      redis.max_bytes ? redis.used_bytes / redis.max_bytes : null,
    ),
    tile("Speculation", perStep(verifiers), "accepted tokens in each step"),
  ];
  keyed(node, found, (one) => one.name, createTile, updateTile);
}

function perStep(verifiers) {
  const known = verifiers.filter((one) => typeof one.realised_accepted === "number");
  if (!known.length) return "–";
  return `+ ${number(known.reduce((sum, one) => sum + one.realised_accepted, 0) / known.length, 2)}`;
}

function createTile(one) {
  const bar = el("progress", { max: "1", "aria-hidden": "true" });
  return el(
    "div",
    { class: "tile card" },
    el("dt", { text: one.name }),
    el("dd", { class: "figure" }),
    el("dd", { class: "hint" }),
    el("dd", {}, bar),
  );
}

function updateTile(node, { value, more, share }) {
  const [, figure, hint, holder] = node.children;
  setText(figure, value);
  setText(hint, more);
  holder.hidden = share === null;
  holder.firstChild.value = share ?? 0;
}

const EMPTY = {
  connecting: ["Asking the gateway", "The first figures come within a second or two."],
  away: ["The gateway does not answer", "It is tried again by itself; figures appear as soon as it is back."],
  unauthorised: [
    "A key of the scope admin is needed",
    "The figures of the cell are for operators. Type the key in under Keys; it stays in this tab.",
  ],
  missing: [
    "This gateway has no live figures",
    "It answers without /admin/live: an older version, perhaps. Playground and mode work all the same.",
  ],
  failing: ["The gateway cannot tell figures now", "Redis may be away. It is tried again by itself."],
};

function emptyState() {
  const title = el("h2");
  const text = el("p", { class: "hint" });
  const open = el("button", {
    type: "button",
    class: "primary",
    text: "Type in a key",
    on: { click: () => document.getElementById("open-keys").click() },
  });
  const node = el("div", { class: "empty" }, el("span", { class: "mark" }, icon("idle")), title, text, open);
  const draw = (live) => {
    const [heading, more] = EMPTY[live.state] ?? EMPTY.connecting;
    setText(title, heading);
    setText(text, live.state === "unauthorised" && live.error ? `${live.error.message}. ${more}` : more);
    open.hidden = live.state !== "unauthorised";
  };
  return { node, draw };
}
