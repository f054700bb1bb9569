// Time series of the last ten minutes, drawn by uPlot; each with a legend and the figures of now in words.

import { el, setText, setVars } from "./dom.js";
import { WINDOW_S } from "./live.js";

const HEIGHT = 168;
const DASHES = { solid: [], dashed: [6, 4], dotted: [2, 3] };
const SYNC = "time";
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300]; // between marks of the time axis

/**
 * @typedef {Object} Series
 * @property {string} label
 * @property {string} colour a custom property, such as `--series-1`
 * @property {"solid"|"dashed"|"dotted"} [dash] so that a line can be told without its colour
 * @property {boolean} [fill]
 * @property {"error"} [scale] with an axis of its own on the right, from 0 to 0.3 at least
 * @property {(value: number) => string} [format]
 */

/** A chart with its caption and legend; series may change from one draw to the next. */
export class TimeChart {
  /**
   * @param {{title: string, hint: string, format: (value: number) => string, range?: Function, height?: number}} options
   */
  constructor(options) {
    this.options = options;
    this.plot = null;
    this.shape = "";
    this.legend = el("ul", { class: "legend" });
    this.area = el("div", { class: "chart-area", "aria-hidden": "true" });
    this.empty = el("p", { class: "chart-empty", text: "Collecting the first seconds…" });
    this.node = el(
      "figure",
      { class: "chart card" },
      el("figcaption", {}, el("h3", { text: options.title }), el("p", { class: "hint", text: options.hint })),
      this.legend,
      this.area,
      this.empty,
    );
    new ResizeObserver(() => this.fit()).observe(this.area);
  }

  /**
   * @param {Series[]} series
   * @param {(number|null)[][]} columns times in seconds first
   */
  draw(series, columns) {
    const hasLine = columns[0].length > 1 && series.length > 0;
    this.empty.hidden = hasLine;
    this.area.hidden = !hasLine;
    this.tell(series, columns);
    if (!hasLine || !this.area.clientWidth) return;
    const shape = JSON.stringify([series.map(({ label, colour }) => [label, colour]), themeOf()]);
    if (shape !== this.shape) this.build(series, shape);
    this.plot.setData(columns, false);
    const last = columns[0].at(-1);
    this.plot.setScale("x", { min: Math.max(columns[0][0], last - WINDOW_S), max: last });
  }

  tell(series, columns) {
    const entries = series.map((one, i) => {
      const now = columns[i + 1].at(-1);
      const key = el("span", { class: `key ${one.dash ?? "solid"}`, "aria-hidden": "true" });
      setVars(key, { "--colour": `var(${one.colour})` });
      const shown = now === null || now === undefined ? "–" : (one.format ?? this.options.format)(now);
      return [key, one.label, shown];
    });
    const labels = JSON.stringify(series.map((one) => one.label));
    if (this.legendOf !== labels) {
      this.legendOf = labels;
      const made = entries.map(([key, label]) => el("li", {}, key, el("span", { text: label }), el("b")));
      this.legend.replaceChildren(...made);
    }
    entries.forEach(([, , shown], i) => setText(this.legend.children[i].lastChild, shown));
  }

  build(series, shape) {
    this.plot?.destroy();
    this.shape = shape;
    const axis = colourOf(this.area, "--muted");
    const grid = { stroke: colourOf(this.area, "--grid"), width: 1 };
    const common = { stroke: axis, grid, ticks: { show: false }, font: fontOf(this.area) };
    this.plot = new window.uPlot(
      {
        width: this.area.clientWidth,
        height: this.options.height ?? HEIGHT,
        legend: { show: false },
        cursor: { sync: { key: SYNC }, drag: { x: false, y: false }, y: false },
        scales: { x: { time: true }, y: { range: this.options.range ?? fromZero }, error: { range: errorRange } },
        axes: [
          { ...common, grid: { show: false }, size: 26, space: 70, incrs: STEPS_S, values: clockTimes },
          { ...common, size: 52, space: 32, values: (_, splits) => splits.map(this.options.format) },
          ...series
            .filter((one) => one.scale)
            .map((one) => ({
              ...common,
              grid: { show: false },
              scale: one.scale,
              side: 1,
              size: 40,
              space: 32,
              values: (_, splits) => splits.map(one.format),
            })),
        ],
        series: [{}, ...series.map((one) => this.line(one))],
      },
      [[], ...series.map(() => [])],
      this.area,
    );
  }

  line(one) {
    const stroke = colourOf(this.area, one.colour);
    const fill = one.fill ? colourOf(this.area, `${one.colour}-soft`) : undefined;
    return {
      label: one.label,
      scale: one.scale ?? "y",
      stroke,
      fill,
      width: 1.75,
      dash: DASHES[one.dash ?? "solid"],
      points: { show: false },
    };
  }

  fit() {
    if (this.plot && this.area.clientWidth)
      this.plot.setSize({ width: this.area.clientWidth, height: this.options.height ?? HEIGHT });
  }
}

function fromZero(_, __, max) {
  return [0, max > 0 ? max * 1.12 : 1];
}

function errorRange(_, __, max) {
  return [0, Math.max(0.3, (max ?? 0) * 1.12)];
}

/** A scale for shares of one: down to what is needed, up to all. */
export function shareRange(_, min) {
  return [Math.max(0, Math.min(min ?? 0.8, 0.8) - 0.05), 1.005];
}

function clockTimes(_, splits) {
  return splits.map((at) =>
    new Date(at * 1000).toLocaleTimeString("en-GB", {
      hour: "2-digit",
      minute: "2-digit",
      second: splits.length > 1 && splits[1] - splits[0] < 60 ? "2-digit" : undefined,
    }),
  );
}

function colourOf(node, name) {
  const probe = el("i", { hidden: true, class: "probe" });
  setVars(probe, { "--colour": `var(${name})` });
  node.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function fontOf(node) {
  return `11px ${getComputedStyle(node).fontFamily}`;
}

function themeOf() {
  return getComputedStyle(document.body).backgroundColor;
}
