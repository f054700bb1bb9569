// The view that answers in one glance whether everything is all right.

import { classTable } from "./classes.js";
import { DepthBars } from "./depths.js";
import { el, icon, keyed, setText } from "./dom.js";
import { bytes, NONE, number, percent, plural, span } from "./format.js";
import { Figures } from "./figures.js";
import { requestTable } from "./requests.js";
import { total } from "./sums.js";
import { verdict } from "./verdict.js";
import { verifierTable } from "./verifiers.js";

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

function drawTiles(node, { verifiers, queue, redis }) {
  const found = [kvTile(verifiers), queueTile(queue.tiers), redisTile(redis), draftTile(verifiers)];
  keyed(node, found, (one) => one.name, createTile, updateTile);
}

function kvTile(verifiers) {
  const [used, all] = [total(verifiers, "kv_used"), total(verifiers, "kv_total")];
  if (!all) return { name: "KV memory", value: NONE, more: "no verifier tells", share: null };
  const more = `${number(used)} of ${number(all)} blocks`;
  return { name: "KV memory", value: percent(used / all, 0), more, share: used / all };
}

function queueTile(tiers) {
  const waiting = tiers.filter((tier) => tier.waiting);
  const oldest = Math.max(0, ...waiting.map((tier) => tier.oldest_s ?? 0));
  const each = waiting.map((tier) => `tier ${tier.tier}: ${number(tier.waiting)}`).join(", ");
  const more = waiting.length ? `${each}; the oldest for ${span(oldest)}` : "nothing waits in any tier";
  return { name: "Queue", value: number(waiting.reduce((sum, tier) => sum + tier.waiting, 0)), more, share: null };
}

function redisTile({ used_bytes: used, max_bytes: max }) {
  const more = max ? `of ${bytes(max)}` : "no limit is set";
  return { name: "Redis memory", value: bytes(used), more, share: max ? used / max : null };
}

function draftTile(verifiers) {
  const [accepted, selected] = [total(verifiers, "accepted"), total(verifiers, "selected")];
  const name = "Drafts accepted";
  if (!selected) return { name, value: NONE, more: "nothing was drafted in ten seconds", share: null };
  const more = `${number(accepted)} of ${number(selected)} in ten seconds`;
  return { name, value: percent(accepted / selected, 0), more, share: accepted / selected };
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

/** Whether a key was given, and is the wrong one. */
function isRefused({ state, error }) {
  return state === "unauthorised" && error.code !== "missing_api_key";
}

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
    setText(text, isRefused(live) ? `${live.error.message}. ${more}` : more);
    open.hidden = live.state !== "unauthorised";
  };
  return { node, draw };
}
