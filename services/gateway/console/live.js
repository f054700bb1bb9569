// Polls the cell's snapshot, keeps ten minutes of it, and knows how well the gateway can be reached.

import { ask } from "./api.js";

export const WINDOW_S = 600;
const VISIBLE_MS = 1000;
const HIDDEN_MS = 5000;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15_000;
const NO_KEY_MS = 60_000; // each try counts as a refused key: a new one is tried at once anyway

/**
 * @typedef {"connecting"|"live"|"away"|"unauthorised"|"missing"|"failing"} LinkState
 */

/** One poller for the whole page. Listeners are called after every poll, and each second while the gateway is away. */
export class Live {
  constructor() {
    /** @type {LinkState} */
    this.state = "connecting";
    /** @type {Object|null} the last snapshot */
    this.snapshot = null;
    /** @type {import("./api.js").ApiError|null} */
    this.error = null;
    /** @type {{at: number, snapshot: Object}[]} seconds since the epoch, oldest first */
    this.history = [];
    this.nextAt = 0;
    this.seenAt = 0;
    this.failures = 0;
    this.listeners = new Set();
    this.timer = null;
    this.asking = false;
  }

  /** @param {(live: Live) => void} listener */
  listen(listener) {
    this.listeners.add(listener);
    listener(this);
  }

  start() {
    document.addEventListener("visibilitychange", () => !document.hidden && this.state === "live" && this.retry());
    this.poll();
  }

  /** Ask at once, as after a key was typed in. */
  retry() {
    clearTimeout(this.timer);
    this.poll();
  }

  async poll() {
    if (this.asking) return;
    this.asking = true;
    try {
      this.keep(await ask("admin/live", { signal: AbortSignal.timeout(8000) }));
    } catch (error) {
      this.miss(error);
    }
    this.asking = false;
    const pause = this.pause();
    this.nextAt = Date.now() + pause;
    this.tell();
    this.wait();
  }

  keep(snapshot) {
    Object.assign(this, { snapshot, error: null, failures: 0, state: "live", seenAt: Date.now() });
    const at = snapshot.at_ms / 1000;
    if (this.history.at(-1)?.at >= at) this.history = []; // a clock that was set back
    this.history.push({ at, snapshot });
    while (this.history[0].at < at - WINDOW_S) this.history.shift();
  }

  miss(error) {
    this.error = error;
    this.failures += 1;
    if (error.isUnauthorised) this.state = "unauthorised";
    else if (error.isMissing) this.state = "missing";
    else if (error.status >= 400) this.state = "failing";
    else this.state = "away"; // nothing came, or not in time
  }

  pause() {
    if (this.state === "live") return document.hidden ? HIDDEN_MS : VISIBLE_MS;
    if (this.state === "unauthorised") return NO_KEY_MS;
    if (this.state === "missing") return LONGEST_PAUSE_MS;
    const backoff = FIRST_PAUSE_MS * 2 ** Math.min(this.failures - 1, 5);
    return Math.min(LONGEST_PAUSE_MS, Math.max(backoff, this.error?.retryAfterMs ?? 0));
  }

  wait() {
    const left = this.nextAt - Date.now();
    if (left <= 0) {
      this.poll();
      return;
    }
    this.timer = setTimeout(
      () => {
        if (this.state !== "live" && this.nextAt - Date.now() > 50) this.tell();
        this.wait();
      },
      Math.min(left, 1000),
    );
  }

  tell() {
    for (const listener of this.listeners) listener(this);
  }

  /**
   * Columns for a chart: the times, and of each snapshot the figures that `pick` finds.
   * @param {(snapshot: Object) => (number|null)[]} pick
   * @param {number} width how many figures
   */
  columns(pick, width) {
    const found = Array.from({ length: width + 1 }, () => []);
    let before = null;
    for (const { at, snapshot } of this.history) {
      if (before !== null && at - before > 3 * (HIDDEN_MS / 1000)) gap(found, (at + before) / 2);
      before = at;
      found[0].push(at);
      const values = pick(snapshot);
      for (let i = 0; i < width; i += 1) found[i + 1].push(values[i] ?? null);
    }
    return found;
  }
}

/** Nothing was seen here: no line is drawn across. */
function gap(columns, at) {
  columns[0].push(at);
  for (const column of columns.slice(1)) column.push(null);
}
