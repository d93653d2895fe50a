// Vote: two images of one prompt and seed, which cells they are of unseen.
//
// Two pairs are fetched ahead, so that an answer shows the next one at once. Answers are kept in the
// browser until the server has them, in order: none is lost when it is started anew meanwhile.

import { drawingUrl, get, imageUrl, post } from "./api.js";
import { fill, h, notice, select } from "./dom.js";

const AHEAD = 2; // pairs that are there before they are needed
const AGAIN = 2000; // milliseconds until what was not sent is sent once more
const SWIPE = 50; // pixels
const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie", " ": "skip" };

const newId = () => [...crypto.getRandomValues(new Uint8Array(8))]
  .map((byte) => byte.toString(16).padStart(2, "0")).join("");

export class Vote {
  constructor(app) {
    this.name = "vote";
    this.app = app;
    this.exam = 0;
    this.from = null; // a cell that each pair shows
    this.ahead = [];
    this.answered = []; // pairs of this visit, to take back
    this.memory = `charsweep votes ${app.sweep.name}`;
    this.waiting = this.remembered();
    this.exams = h("div", { class: "exams" });
    this.drawings = h("div", { class: "drawings", role: "group", "aria-label": "The character" });
    this.prompt = h("p", { class: "prompt" });
    this.sides = ["left", "right"].map((side) => h("button", {
      type: "button", class: `side ${side}`, onclick: () => this.answer(side),
    }, h("img", { alt: `the ${side} image`, draggable: "false" })));
    this.pair = h("div", {
      class: "pair",
      onpointerdown: (event) => { this.start = [event.clientX, event.clientY]; },
      onpointerup: (event) => this.swipe(event),
    }, this.sides);
    this.pair.addEventListener("click", (event) => {
      if (this.swiped) { event.stopPropagation(); event.preventDefault(); this.swiped = false; }
    }, true);
    const button = (text, key, does) => h("button", { type: "button", onclick: does },
      text, h("kbd", { "aria-hidden": "true" }, key));
    this.buttons = h("div", { class: "answers", role: "group", "aria-label": "Answers" },
      button("Left", "←", () => this.answer("left")),
      button("Same", "↓", () => this.answer("tie")),
      button("Right", "→", () => this.answer("right")),
      button("Skip", "space", () => this.answer("skip")),
      button("Undo", "u", () => this.undo()));
    this.says = h("p", { class: "says", role: "status" });
    this.trust = h("p", { class: "hint" });
    this.ranking = h("details", { class: "ranking" });
    this.element = h("section", { class: "vote", "aria-label": "Vote" },
      this.exams, this.drawings, this.prompt, this.pair, this.buttons, this.says, this.trust, this.ranking);
    this.flush();
  }

  async enter(argument) {
    const key = argument || null;
    const cell = this.app.sweep.cells.find((one) => one.key === key);
    this.exam = cell ? cell.exam : this.exam;
    if (!this.app.sweep.exams[this.exam]) this.exam = 0;
    if (this.from !== (cell?.key ?? null)) {
      this.from = cell?.key ?? null;
      this.ahead = [];
      this.now = null;
      delete this.element.dataset.ready;
    }
    this.showDrawings();
    if (!this.now) await this.next();
    else this.began = performance.now();
    this.tell();
  }

  showDrawings() {
    const { exams } = this.app.sweep;
    const exam = exams[this.exam];
    fill(this.exams, exams.length > 1 ? select("exam", exams.map((one, at) => [at, one.name]),
      this.exam, (at) => { this.exam = Number(at); this.from = undefined; this.enter(); }) : null);
    fill(this.drawings, ...exam.drawings.map(({ number, caption }) =>
      h("img", { src: drawingUrl(this.exam, number), alt: caption || `drawing ${number + 1}`,
                 title: caption, loading: "lazy" })));
  }

  // -- pairs ---------------------------------------------------------------------------------------

  async next() {
    while (this.ahead.length < 1) {
      try {
        this.ahead.push(await this.fetchPair());
      } catch (error) {
        this.now = null;
        this.element.classList.add("none");
        this.prompt.textContent = error.message;
        if (error.status === undefined) { setTimeout(() => this.enter(this.from), AGAIN); }
        return;
      }
    }
    this.show(this.ahead.shift());
    this.refill();
  }

  async refill() {
    if (this.filling) return;
    this.filling = true;
    try {
      const from = this.from;
      while (this.ahead.length < AHEAD) {
        const pair = await this.fetchPair();
        if (from !== this.from) break;
        this.ahead.push(pair);
      }
    } catch { /* the next answer tries again */ }
    this.filling = false;
  }

  async fetchPair() {
    const pair = await get(`/api/pair?exam=${this.exam}${this.from ? `&cell=${this.from}` : ""}`);
    pair.pictures = await Promise.all([pair.left, pair.right].map(async ({ images, number }) => {
      const picture = new Image();
      picture.src = imageUrl(images, number);
      try { await picture.decode(); } catch { /* it is shown as what is missing */ }
      return picture;
    }));
    return pair;
  }

  show(pair) {
    this.now = pair;
    const exam = this.app.sweep.exams[this.exam];
    this.element.classList.remove("none");
    this.prompt.textContent = exam.prompts[pair.prompt];
    pair.pictures.forEach((picture, at) => {
      picture.alt = `the ${at ? "right" : "left"} image`;
      picture.draggable = false;
      fill(this.sides[at], picture);
    });
    this.element.dataset.ready = "";
    this.began = performance.now();
  }

  // -- answers -------------------------------------------------------------------------------------

  answer(answer) {
    const pair = this.now;
    if (!pair) return;
    const seconds = Math.round((performance.now() - this.began) / 10) / 100;
    this.now = null;
    delete this.element.dataset.ready;
    this.answered.push(pair);
    this.queue(["/api/votes", {
      id: pair.id, left: pair.left.cell, right: pair.right.cell,
      prompt: pair.prompt, seed: pair.seed, answer, seconds,
    }]);
    const side = this.sides[{ left: 0, right: 1 }[answer]];
    side?.classList.add("taken");
    setTimeout(() => side?.classList.remove("taken"), 180);
    this.next();
  }

  // Take the newest answer back, and show that pair again.
  undo() {
    const pair = this.answered.pop();
    const id = pair?.id ?? this.told?.last;
    if (!id) { notice("There is no vote of yours to take back."); return; }
    this.queue(["/api/undo", { id }]);
    if (pair) {
      if (this.now) this.ahead.unshift(this.now);
      this.show({ ...pair, id: newId() });
    }
    notice("Taken back.");
  }

  // -- what waits to be sent, in order -------------------------------------------------------------

  queue(what) {
    this.waiting.push(what);
    this.remember();
    this.flush();
  }

  async flush() {
    if (this.sending) return;
    this.sending = true;
    while (this.waiting.length) {
      const [path, content] = this.waiting[0];
      try {
        this.told = await post(path, content);
      } catch (error) {
        if (error.status === undefined || error.status >= 500) { // it does not answer: later
          setTimeout(() => this.flush(), AGAIN);
          break;
        }
        notice(error.message, true); // it will not take it: no use to ask again
      }
      this.waiting.shift();
      this.remember();
    }
    this.sending = false;
    this.draw();
  }

  remember() {
    try { localStorage.setItem(this.memory, JSON.stringify(this.waiting)); } catch { /* none kept */ }
  }

  remembered() {
    try {
      const found = JSON.parse(localStorage.getItem(this.memory));
      return Array.isArray(found) ? found.filter((one) => Array.isArray(one) && one.length === 2) : [];
    } catch { return []; }
  }

  // -- what the votes say --------------------------------------------------------------------------

  async tell() {
    try { this.told = await get(`/api/votes?exam=${this.exam}`); } catch { return; }
    this.draw();
  }

  draw() {
    if (!this.told) return;
    const { count, says, enough, trust, strengths } = this.told;
    this.says.classList.toggle("enough", enough);
    fill(this.says, h("b", {}, count === 1 ? "1 vote" : `${count} votes`), ` ${says}`);
    fill(this.trust, trust.join(" "));
    this.ranking.hidden = !strengths.length;
    fill(this.ranking, h("summary", {}, "Who is ahead"),
      h("p", { class: "hint" }, "Share of votes that it would win against an average cell, with its "
        + "interval of 95 %. Whoever looks here votes less blindly."),
      h("table", {}, h("tbody", {}, strengths.map(({ label, value, low, high }) => h("tr", {},
        h("th", { scope: "row" }, label),
        h("td", {}, `${Math.round(100 * value)} %`),
        h("td", { class: "hint" }, `${Math.round(100 * low)} to ${Math.round(100 * high)} %`))))));
  }

  // -- keys and touch ------------------------------------------------------------------------------

  key(event) {
    if (event.repeat) return;
    const answer = KEYS[event.key];
    if (event.key === "u") this.undo();
    else if (answer && !(event.key === " " && event.target.closest("summary"))) this.answer(answer);
    else return;
    event.preventDefault();
  }

  swipe(event) {
    if (!this.start || event.pointerType === "mouse") return;
    const [x, y] = [event.clientX - this.start[0], event.clientY - this.start[1]];
    this.start = null;
    if (Math.max(Math.abs(x), Math.abs(y)) < SWIPE) return;
    this.swiped = true; // the click that may follow is not one
    setTimeout(() => { this.swiped = false; }, 100);
    if (Math.abs(x) > Math.abs(y)) this.answer(x < 0 ? "left" : "right");
    else this.answer(y > 0 ? "tie" : "skip");
  }
}
