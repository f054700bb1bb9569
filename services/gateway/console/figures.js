// The overview's charts: what each draws of a snapshot.

import { shareRange, TimeChart } from "./charts.js";
import { number, percent } from "./format.js";

const COLOURS = ["--series-1", "--series-2", "--series-3", "--series-4", "--series-5", "--series-6"];
const DASHES = ["solid", "dashed", "dotted"];

const SPEED = [{ label: "Tokens per second", colour: "--series-1", fill: true }];
const BUDGET = [
  { label: "For SLOs", colour: "--series-1", dash: "solid" },
  { label: "For throughput", colour: "--series-2", dash: "dashed" },
  { label: "Accepted", colour: "--series-3", dash: "dotted", fill: true },
];
const DRIFT = [
  { label: "Promised by the draft", colour: "--series-4", dash: "dashed" },
  { label: "Accepted", colour: "--series-3", dash: "solid" },
  {
    label: "Calibration error",
    colour: "--series-5",
    dash: "dotted",
    scale: "error",
    format: (value) => number(value, 2),
  },
];

/** Five charts over one history. */
export class Figures {
  constructor() {
    this.attainment = new TimeChart({
      title: "Attainment by class",
      hint: "Requests that met their target, of those of the last five minutes",
      format: (value) => percent(value, 0),
      range: shareRange,
    });
    this.speed = new TimeChart({
      title: "Tokens per second",
      hint: "Committed by all verifiers",
      format: (value) => number(value),
    });
    this.budget = new TimeChart({
      title: "Budget of a second",
      hint: "Drafted tokens chosen for targets and for throughput, and those accepted",
      format: (value) => number(value),
    });
    this.drift = new TimeChart({
      title: "Does the draft still match?",
      hint: "Accepted tokens a step, as the draft promises and as they come; right: how far its probabilities are off",
      format: (value) => number(value, 2),
    });
  }

  get nodes() {
    return [this.attainment, this.speed, this.budget, this.drift].map((chart) => chart.node);
  }

  /** @param {import("./live.js").Live} live */
  draw(live) {
    const names = live.snapshot.classes.map((one) => one.name);
    const series = names.map((label, i) => ({
      label,
      colour: COLOURS[i % COLOURS.length],
      dash: DASHES[i % DASHES.length],
    }));
    this.attainment.draw(
      series,
      live.columns((snapshot) => attainments(snapshot, names), names.length),
    );
    this.speed.draw(
      SPEED,
      live.columns((snapshot) => [sum(snapshot, "tokens_per_s")], 1),
    );
    this.budget.draw(BUDGET, live.columns(budgetOf, BUDGET.length));
    this.drift.draw(DRIFT, live.columns(driftOf, DRIFT.length));
  }
}

function attainments({ classes }, names) {
  return names.map((name) => classes.find((one) => one.name === name)?.attainment ?? null);
}

function sum({ verifiers }, name) {
  const known = verifiers.map((one) => one[name]).filter((value) => typeof value === "number");
  return known.length ? known.reduce((all, value) => all + value, 0) : null;
}

function budgetOf(snapshot) {
  return ["slo_nodes", "throughput_nodes", "accepted"].map((name) => sum(snapshot, name));
}

function driftOf({ verifiers }) {
  return ["expected_accepted", "realised_accepted", "calibration_error"].map((name) => mean(verifiers, name));
}

function mean(verifiers, name) {
  const known = verifiers.map((one) => one[name]).filter((value) => typeof value === "number");
  return known.length ? known.reduce((all, value) => all + value, 0) / known.length : null;
}
