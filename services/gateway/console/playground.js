// The playground: one request with a target of its own, and what speculation made of it.

import { Answer } from "./answer.js";
import { events, request } from "./api.js";
import { announce, el, setText } from "./dom.js";
import { number } from "./format.js";
import { Iterations } from "./iterations.js";
import { Pace } from "./pace.js";
import { Problem } from "./problem.js";
import { createForm } from "./request_form.js";

/**
 * @param {HTMLElement} section
 * @returns {{show: () => void}}
 */
export function createPlayground(section) {
  const page = new Playground();
  section.replaceChildren(
    el("h1", { id: "title-playground", class: "visually-hidden", text: "Playground" }),
    page.node,
  );
  return { show: () => page.form.refresh() };
}

class Playground {
  constructor() {
    this.form = createForm(
      (asked) => this.run(asked),
      () => this.abort?.abort(),
    );
    this.pace = new Pace();
    this.problem = new Problem();
    this.answer = new Answer((position) => this.iterations.pickAt(position));
    this.iterations = new Iterations((iterations) => this.answer.learn(iterations));
    this.status = el("p", { class: "hint", text: "Nothing has been asked yet." });
    this.abort = null;
    const result = el(
      "section",
      { class: "card result", "aria-label": "Answer" },
      el("div", { class: "card-head" }, el("h2", { text: "Answer" }), this.status),
      this.problem.node,
      this.pace.node,
      this.answer.node,
    );
    this.node = el(
      "div",
      { class: "stack" },
      el("div", { class: "play" }, this.form.node, result),
      this.iterations.node,
    );
  }

  async run({ path, body, headers, tpotMs }) {
    this.abort?.abort();
    const abort = new AbortController();
    this.abort = abort;
    this.form.setBusy(true);
    for (const part of [this.answer, this.iterations, this.problem]) part.clear();
    this.pace.begin(tpotMs);
    this.say("Waiting for the first token…");
    try {
      await this.read(await request(path, { method: "POST", body, headers, signal: abort.signal }), headers);
    } catch (error) {
      if (this.abort === abort) this.fail(error);
    }
    if (this.abort !== abort) return; // another run has begun
    this.abort = null;
    this.form.setBusy(false);
    await this.iterations.finish();
  }

  async read(response, headers) {
    this.pace.promise(response.headers.get("x-adaserve-slo"));
    this.iterations.follow(response.headers.get("x-adaserve-stream"), headers);
    let finish = null;
    for await (const { id, data } of events(response)) {
      const choice = data.choices[0];
      if (choice) {
        const added = this.answer.add(choice, id);
        if (added) this.pace.count(added);
        finish = choice.finish_reason ?? finish;
      }
      if (data.metrics) this.pace.settle(data.metrics);
      if (this.answer.size) setText(this.status, `${number(this.answer.size)} tokens so far`);
    }
    this.done(finish);
  }

  done(finish) {
    const why = finish === "length" ? "at the limit of its length" : "by itself";
    this.say(`Ended ${why} after ${number(this.answer.size)} tokens: ${this.pace.words()}`);
    announce(`The answer has ended. ${this.pace.words()}`);
  }

  fail(error) {
    if (error.name === "AbortError") {
      this.say(`Stopped after ${number(this.answer.size)} tokens.`);
      announce("Stopped");
      return;
    }
    this.say(this.answer.size ? `Broke off after ${number(this.answer.size)} tokens.` : "Not answered.");
    this.problem.show(error);
  }

  say(text) {
    setText(this.status, text);
  }
}
