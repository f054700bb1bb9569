// The overview's charts: what each draws of a snapshot.

import { shareRange, TimeChart } from "./charts.js";
import { number, percent } from "./format.js";
import { perSecond, total } from "./sums.js";

const COLOURS = ["--series-1", "--series-2", "--series-3", "--series-4", "--series-5", "--series-6"];
const DASHES = ["solid", "dashed", "dotted"];

const SPEED = [{ label: "Tokens per second", colour: "--series-1", fill: true }];
const BUDGET = [
  { label: "For SLOs", colour: "--series-1", dash: "solid" },
  { label: "For throughput", colour: "--series-2", dash: "dashed" },
  { label: "Accepted", colour: "--series-3", dash: "dotted", fill: true },
];
const DRIFT = [
  { label: "Promised", colour: "--series-4", dash: "dashed" },
  { label: "Accepted", colour: "--series-3", dash: "solid" },
  {
    label: "Calibration error",
    colour: "--series-5",
    dash: "dotted",
    scale: "error",
    format: (value) => number(value, 2),
  },
];

const whole = (value) => number(value, Math.abs(value) < 10 ? 1 : 0);

/** Four charts over one history. */
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
      format: whole,
    });
    this.budget = new TimeChart({
      title: "Budget split",
      hint: "Drafted tokens a second that were chosen for targets and for throughput, and those accepted",
      format: whole,
    });
    this.drift = new TimeChart({
      title: "Does the draft still match?",
      hint: "Accepted tokens a second, as the draft promises and as they come; right: how far its probabilities are off",
      format: whole,
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
      live.columns(({ verifiers }) => [total(verifiers, "tokens_per_s")], SPEED.length),
    );
    this.budget.draw(BUDGET, live.columns(budgetOf, BUDGET.length));
    this.drift.draw(DRIFT, live.columns(driftOf, DRIFT.length));
  }
}

function attainments({ classes }, names) {
  return names.map((name) => classes.find((one) => one.name === name)?.attainment ?? null);
}

function budgetOf({ verifiers }) {
  return ["slo_nodes", "throughput_nodes", "accepted"].map((name) => perSecond(verifiers, name));
}

function driftOf({ verifiers }) {
  const sums = ["expected_accepted", "realised_accepted"].map((name) => perSecond(verifiers, name));
  const errors = verifiers.map((one) => one.calibration_error).filter((value) => typeof value === "number");
  return [...sums, errors.length ? Math.max(...errors) : null];
}
