// Puts the views together: which one is shown, the state of the connection, keys and colours.

import { ask, keys } from "./api.js";
import { announce, el, onlyAscii, setText } from "./dom.js";
import { span } from "./format.js";
import { Live } from "./live.js";
import { createMode } from "./mode.js";
import { createOverview } from "./overview.js";
import { createPlayground } from "./playground.js";
import { createUsage } from "./usage.js";

const NAMES = ["overview", "playground", "mode", "usage"];
const TITLES = { overview: "Overview", playground: "Playground", mode: "Mode", usage: "Usage" };
const STATES = {
  connecting: "Connecting",
  live: "Live",
  away: "Disconnected",
  unauthorised: "Key needed",
  missing: "No live figures",
  failing: "No figures",
};

const byId = (id) => document.getElementById(id);
const section = (name) => byId(`view-${name}`);
const live = new Live();
const views = {
  overview: createOverview(section("overview"), live),
  playground: createPlayground(section("playground")),
  mode: createMode(section("mode")),
  usage: createUsage(section("usage")),
};

function shown() {
  const asked = location.hash.slice(1);
  return NAMES.includes(asked) ? asked : "overview";
}

function route(isFirst) {
  const name = shown();
  for (const other of NAMES) section(other).hidden = other !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${TITLES[name]} · AdaServe`;
  views[name].show();
  if (!isFirst) {
    announce(TITLES[name]);
    scrollTo({ top: 0 });
  }
}

const retry = el("button", {
  type: "button",
  class: "quiet small",
  text: "Try now",
  on: { click: () => live.retry() },
});
const bannerText = el("span");
byId("banner").append(bannerText, retry);
let before = null;

live.listen(({ state, snapshot, seenAt, nextAt, error }) => {
  const isDraining = state === "live" && snapshot.draining;
  byId("link-state").dataset.state = isDraining ? "draining" : state;
  setText(byId("link-text"), isDraining ? "Draining" : STATES[state]);
  if (state === before && state === "live") return;
  const isAway = state === "away" || state === "failing";
  byId("banner").hidden = !isAway;
  if (isAway) setText(bannerText, awayText(error, snapshot, seenAt, nextAt));
  if (state === "live") setText(byId("about"), `AdaServe, cell ${snapshot.cell}, ${snapshot.gateway}`);
  if (state !== before && before !== null)
    announce(isAway ? `${STATES[state]}. It is tried again by itself.` : STATES[state]);
  if (before === "away" && state === "live") views[shown()].show();
  before = state;
});

function awayText(error, snapshot, seenAt, nextAt) {
  const what = error.status ? error.message : "The gateway does not answer";
  const last = snapshot ? ` Figures are ${span((Date.now() - seenAt) / 1000)} old.` : "";
  const left = Math.round((nextAt - Date.now()) / 1000);
  return `${what}.${last} ${left > 0 ? `Next try in ${left} s.` : "Trying now."}`;
}

function openKeys() {
  byId("admin-key").value = keys.admin;
  byId("inference-key").value = keys.inference;
  for (const id of ["admin-key", "inference-key"]) byId(id).setCustomValidity(""); // what is kept was checked
  byId("keys").showModal();
}

function useKeys(admin, inference) {
  keys.set(admin.trim(), inference.trim());
  live.retry();
  views[shown()].show();
}

for (const id of ["admin-key", "inference-key"]) onlyAscii(byId(id), "A key");
byId("open-keys").addEventListener("click", openKeys);
byId("keys-cancel").addEventListener("click", () => byId("keys").close());
byId("keys-forget").addEventListener("click", () => {
  byId("keys").close();
  useKeys("", "");
});
byId("keys-form").addEventListener("submit", () => useKeys(byId("admin-key").value, byId("inference-key").value));

const dark = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : dark.matches;
}

function showTheme() {
  byId("theme").setAttribute("aria-pressed", String(isDark()));
  byId("theme")
    .querySelector("use")
    .setAttribute("href", isDark() ? "#i-sun" : "#i-moon");
}

byId("theme").addEventListener("click", () => {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("adaserve.theme", theme);
  showTheme();
});
dark.addEventListener("change", showTheme);
addEventListener("hashchange", () => route(false));

showTheme();
route(true);
live.start();
ask("version").then(
  ({ version }) => byId("about").setAttribute("title", `version ${version}`),
  () => {},
);
