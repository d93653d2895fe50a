// One image, large, beside what it should look like; what is known of its cell; what to do with it.

import { drawingUrl, get, imageUrl, post } from "./api.js";
import { fill, h, notice } from "./dom.js";

export class Detail {
  constructor(app, look) {
    this.app = app;
    this.look = look;
    this.body = h("div", { class: "detail" });
    this.element = h("dialog", {
      "aria-labelledby": "detail-title",
      onkeydown: (event) => this.key(event),
      onclose: () => this.closed(),
      onclick: (event) => { if (event.target === this.element) this.element.close(); },
    }, this.body);
  }

  open(row, column) {
    this.at = [row, column];
    if (!this.element.open) this.element.showModal();
    this.show();
  }

  closed() {
    clearTimeout(this.timer);
    this.cell = null;
    this.look.grid.go(...this.at);
  }

  // Cells may have finished since.
  refresh() {
    if (this.element.open && this.look.grid.at(...this.at)) this.show();
  }

  async show() {
    const place = this.look.grid.at(...this.at);
    const { cell } = place;
    const { sweep } = this.app;
    const exam = sweep.exams[cell.exam];
    this.cell = cell.key;
    const turn = this.turn = (this.turn ?? 0) + 1;
    const close = h("button", { type: "button", class: "close", "aria-label": "Close (Esc)",
                                onclick: () => this.element.close() }, "✕");
    let known, beside;
    try {
      [known, beside] = await Promise.all([
        get(`/api/cells/${cell.key}`), this.beside(exam, cell, place),
      ]);
    } catch (error) {
      fill(this.body, close, h("h2", { id: "detail-title" }, error.message));
      return;
    }
    if (turn !== this.turn) return; // another has been opened meanwhile
    const prompt = exam.prompts[place.prompt] ?? "";
    const hadFocus = this.body.contains(document.activeElement)
      ? document.activeElement.dataset.name : null;
    fill(this.body,
      close,
      h("div", { class: "pictures" },
        h("figure", { class: "large" },
          cell.images
            ? h("img", { src: imageUrl(cell.images, place.number),
                         alt: this.look.words(place) })
            : h("div", { class: `none ${cell.state}` }, cell.state),
          h("figcaption", {}, prompt,
            exam.seeds.length > 1 ? h("small", {}, ` · exam seed ${exam.seeds[place.seed]}`) : null)),
        h("div", { class: "beside" }, beside)),
      h("div", { class: "known" },
        h("h2", { id: "detail-title" }, known.title),
        known.place ? h("p", { class: "place" }, h("b", {}, known.place), " settings by score") : null,
        known.preference ? h("p", { class: "place" }, "preferred to an average setting in ",
                             h("b", {}, known.preference)) : null,
        known.recommended ? h("p", { class: "standing" }, "★ ", known.recommended, ".") : null,
        known.note ? h("p", { class: cell.state === "waiting" ? "hint" : "bad" }, known.note, ".") : null,
        this.actions(cell, known),
        this.scores(known, place),
        h("details", {}, h("summary", {}, "Settings and costs"),
          h("table", {}, h("tbody", {}, [...known.settings, ["cell", known.key], ...known.costs]
            .map(([label, text]) => h("tr", {}, h("th", { scope: "row" }, label),
                                     h("td", {}, text))))))));
    const again = [...this.body.querySelectorAll("button")]
      .find((button) => button.dataset.name && button.dataset.name === hadFocus);
    (again ?? this.body.querySelector(".actions button") ?? close).focus({ preventScroll: true });
    this.exportState();
  }

  // The true picture or the nearest drawing, and what the untaught base makes of the prompt.
  async beside(exam, cell, place) {
    const figures = [];
    const seeds = exam.seeds.length || 1;
    for (const { name, images, seeds: own, count } of exam.references) {
      const seed = Math.min(place.seed, own - 1);
      if (place.prompt * own + seed >= count) continue; // true pictures are of the exam itself
      figures.push(h("figure", {},
        h("img", { src: imageUrl(images, place.prompt * own + seed), alt: name }),
        h("figcaption", {}, name)));
    }
    if (!exam.references.some((one) => one.name === "true picture") && cell.images) {
      try {
        const { drawing } = await get(`/api/nearest/${cell.images}/${place.prompt * seeds + place.seed}`);
        if (drawing !== null) {
          figures.unshift(h("figure", {},
            h("img", { src: drawingUrl(cell.exam, drawing), alt: "nearest drawing" }),
            h("figcaption", {}, "nearest drawing, by its pixels")));
        }
      } catch { /* then it is not shown */ }
    }
    return figures;
  }

  actions(cell, known) {
    if (cell.state === "waiting") return this.stopping(cell);
    if (!cell.images) return null;
    this.told = h("div", { class: "told", role: "status" });
    return h("div", { class: "actions" },
      h("button", { type: "button", class: "main", "data-name": "take",
                    onclick: () => this.take(cell) }, "Take this one"),
      h("button", { type: "button", "data-name": "vote",
                    onclick: () => { this.element.close(); location.hash = `vote/${cell.key}`; } },
        "Vote from here"),
      h("details", { class: "command" }, h("summary", {}, "As a command"),
        h("code", { tabindex: 0 }, known.command)),
      this.told);
  }

  // A cell that has not ended can be stopped; its snapshots stay.
  stopping(cell) {
    const button = h("button", { type: "button", "data-name": "stop", onclick: async () => {
      button.disabled = true;
      try {
        await post("/api/stop", { cell: cell.key });
        notice("It is stopped before its next step; what is stored of it stays.");
      } catch (error) {
        button.disabled = false;
        notice(error.message, true);
      }
    } }, "Stop this cell");
    return h("div", { class: "actions" }, button);
  }

  async take(cell) {
    try {
      await post("/api/export", { cell: cell.key });
    } catch (error) {
      notice(error.message, true);
    }
    this.exportState();
  }

  async exportState() {
    clearTimeout(this.timer);
    const key = this.cell;
    let last;
    try { last = await get("/api/export"); } catch { return; }
    if (!this.told || last.cell !== key || this.cell !== key) return;
    const words = {
      running: ["Being exported …"],
      done: ["Exported to ", h("code", { tabindex: 0 }, last.path)],
      failed: [h("span", { class: "bad" }, last.problem)],
    }[last.state] ?? [];
    fill(this.told, ...words);
    if (last.state === "running") this.timer = setTimeout(() => this.exportState(), 700);
  }

  scores(known, place) {
    if (!known.scores.length) return null;
    const ofImage = (score) => score.images?.[place.prompt]?.[place.seed];
    return h("table", { class: "scores" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "score"), h("th", { scope: "col" }, "cell"),
        h("th", { scope: "col" }, "this image"), h("th", { scope: "col" }, "over the base"))),
      h("tbody", {}, known.scores.map((score) => h("tr", {},
        h("th", { scope: "row", title: score.meaning }, score.label),
        h("td", {}, score.text, h("small", {}, score.error)),
        h("td", {}, ofImage(score) === undefined ? "" : ofImage(score).toFixed(2).replace("-", "−")),
        h("td", {}, score.gain)))));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [row, column] = this.at;
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (move && !event.target.closest("code")) {
      event.preventDefault();
      // on to the next place that has something
      for (let at = [row + move[0], column + move[1]]; this.look.layout.rows[at[0]]
           && at[1] >= 0 && at[1] < this.look.layout.columns.length;
           at = [at[0] + move[0], at[1] + move[1]]) {
        if (this.look.grid.at(...at)) { this.open(...at); return; }
      }
    }
  }
}
