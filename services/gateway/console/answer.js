// The streamed text, token by token, each marked by where it came from.

import { el, setText } from "./dom.js";
import { number, plural } from "./format.js";

const KINDS = {
  drafted: "drafted and accepted",
  own: "the target's own",
  unknown: "not told",
};

const UNKNOWN = "\u0000"; // in no text

/** The answer and its legend. */
export class Answer {
  /** @param {(position: number) => void} onPick a token was clicked, by its context position */
  constructor(onPick) {
    this.text = el("div", { class: "answer", role: "region", "aria-label": "Text of the answer", tabindex: "0" });
    this.counts = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, el("b", { text: "0" })]));
    const legend = Object.entries(KINDS).map(([kind, words]) =>
      el(
        "li",
        { data: { kind } },
        el("span", { class: `tok ${kind}`, "aria-hidden": "true", text: "abc" }),
        el("span", { text: words }),
        this.counts[kind],
      ),
    );
    this.legend = el("ul", { class: "legend provenance", "aria-label": "Where tokens came from" }, ...legend);
    this.node = el("div", {}, this.legend, this.text);
    this.text.addEventListener("click", (event) => {
      const at = event.target.dataset?.position;
      if (at) onPick(Number(at));
    });
    this.clear();
  }

  clear() {
    this.size = 0;
    this.tally = { drafted: 0, own: 0, unknown: 0 };
    this.words = new Map(); // token id -> text
    this.whole = []; // chunks of several tokens whose own texts are not known yet
    this.text.replaceChildren();
    this.count();
  }

  /**
   * A chunk of the stream; gives how many tokens it brought.
   * @param {Object} choice
   * @param {string} id the event's, `<request>:<position>:<mark>`
   */
  add(choice, id) {
    const text = choice.text ?? choice.delta?.content ?? "";
    const tokens = choice.token_ids ?? [];
    const flags = tokens.map((_, i) => kindOf(choice.adaserve?.drafted?.[i]));
    for (const kind of flags) this.tally[kind] += 1;
    this.size += tokens.length;
    this.count();
    if (!tokens.length && text === "") return 0;
    const atEnd = this.text.scrollHeight - this.text.scrollTop - this.text.clientHeight < 24;
    const piece = { text, tokens, flags, from: Number(id.split(":")[1]) - tokens.length, node: el("span") };
    this.text.append(piece.node);
    if (!this.place(piece)) this.whole.push(piece);
    if (atEnd) this.text.scrollTop = this.text.scrollHeight;
    return tokens.length;
  }

  /** Draw a chunk; false where its tokens' own texts are not known and it is drawn as a whole. */
  place({ text, tokens, flags, from, node }) {
    const parts = this.partsOf(text, tokens);
    const isSplit = parts.join("") === text;
    if (isSplit) node.replaceChildren(...parts.map((part, i) => mark(part, flags[i], from + i)));
    else node.replaceChildren(mark(text, new Set(flags).size === 1 ? flags[0] : "mixed", from));
    return isSplit;
  }

  /** The text of each token, as far as it is known; a stop token at the end has none. */
  partsOf(text, tokens) {
    if (tokens.length === 1) return [text];
    const parts = tokens.map((token) => this.words.get(token) ?? UNKNOWN);
    return parts.slice(0, -1).join("") === text ? [...parts.slice(0, -1), ""] : parts;
  }

  /** Texts of tokens, from what the iterations tell. */
  learn(iterations) {
    for (const { nodes, own } of iterations)
      for (const one of own ? [...nodes, own] : nodes) this.words.set(one.token, one.text);
    this.whole = this.whole.filter((piece) => !this.place(piece));
  }

  count() {
    for (const [kind, node] of Object.entries(this.counts)) {
      setText(node, number(this.tally[kind]));
      if (kind === "unknown") node.parentElement.hidden = this.tally.unknown === 0;
    }
    this.legend.setAttribute(
      "aria-label",
      `Where tokens came from: ${plural(this.tally.drafted, "token")} drafted and accepted, ${number(this.tally.own)} the target's own`,
    );
  }
}

function kindOf(flag) {
  if (flag === true) return "drafted";
  return flag === false ? "own" : "unknown";
}

function mark(text, kind, position) {
  return el("span", {
    class: `tok ${kind}`,
    data: { position: String(position) },
    title: kind === "mixed" ? "several tokens" : KINDS[kind],
    text,
  });
}
