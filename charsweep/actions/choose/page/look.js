// Look: the images of a sweep as a grid of any two of its dimensions.

import { send } from "./api.js";
import { Detail } from "./detail.js";
import { fill, h, notice, select } from "./dom.js";
import { Grid, SIZES } from "./grid.js";
import { ALL, describer, dimensions, firstView, fittingView, layout }
  from "./layout.js";

const MOST_DRAWN = 5000; // images of a PNG

export class Look {
  constructor(app) {
    this.name = "look";
    this.app = app;
    this.memory = `charsweep look ${app.sweep.name}`;
    this.view = fittingView(app.sweep, this.remembered());
    this.size = this.view.size ?? (window.innerWidth < 600 ? 96 : 128);
    this.detail = new Detail(app, this);
    this.grid = new Grid({
      words: (place) => this.words(place),
      caption: (place) => this.caption(place),
      mark: (place) => this.mark(place),
      open: (row, column) => this.detail.open(row, column),
      zoom: (step) => this.zoom(step),
    });
    this.controls = h("div", { class: "controls", id: "controls" });
    this.toggle = h("button", {
      class: "toggle", type: "button", "aria-controls": "controls", "aria-expanded": "false",
      onclick: () => {
        const isOpen = this.element.classList.toggle("open");
        this.toggle.setAttribute("aria-expanded", String(isOpen));
      },
    }, "Filters");
    this.count = h("span", { class: "count", role: "status" });
    this.save = h("button", { type: "button", onclick: () => this.png() }, "Save as PNG");
    this.bar = h("div", { class: "bar" },
      this.toggle,
      h("div", { class: "zoom", role: "group", "aria-label": "Size of images" },
        h("button", { type: "button", title: "smaller (−)", "aria-label": "Smaller images",
                      onclick: () => this.zoom(-1) }, "−"),
        h("button", { type: "button", title: "larger (+)", "aria-label": "Larger images",
                      onclick: () => this.zoom(1) }, "+")),
      this.save, this.count);
    this.verdict = h("details", { class: "verdict" });
    this.element = h("section", { class: "look", "aria-label": "Look" },
      this.verdict, h("div", { class: "tools" }, this.controls, this.bar), this.grid.element,
      this.detail.element);
  }

  enter() { this.refresh(); }

  // The sweep may be another than before: more cells, more values.
  refresh() {
    this.view = fittingView(this.app.sweep, this.view);
    const exam = this.app.sweep.exams[this.view.exam];
    this.good = new Set(exam.good);
    fill(this.verdict,
      h("summary", {}, h("span", { class: "star", "aria-hidden": "true" }, "★ "),
        exam.title || "Nothing is recommended yet"),
      h("p", {}, exam.says));
    this.fillControls();
    this.draw();
    this.detail.refresh();
  }

  fillControls() {
    const { sweep } = this.app;
    const known = dimensions(sweep, this.view.exam);
    const names = known.map((one) => [one.id, one.label]);
    const fields = [
      select("columns", names, this.view.columns, (id) => this.along("columns", id)),
      select("rows", names, this.view.rows, (id) => this.along("rows", id)),
      h("button", { type: "button", class: "swap", title: "swap rows and columns (x)",
                    "aria-label": "Swap rows and columns", onclick: () => this.swap() }, "⇄"),
    ];
    if (sweep.exams.length > 1) {
      fields.unshift(select("exam", sweep.exams.map((exam, at) => [at, exam.name]), this.view.exam,
        (at) => this.change(firstView(sweep, Number(at)))));
    }
    for (const one of known) {
      if (one.id === this.view.columns || one.id === this.view.rows || one.values.length < 2) continue;
      const options = [[ALL, "all"], ...one.values.map((text, at) => [at, text])];
      fields.push(select(one.label, options, this.view.held[one.id], (value) => this.change({
        ...this.view,
        held: { ...this.view.held, [one.id]: value === ALL ? ALL : Number(value) },
      })));
    }
    fields.push(
      select("show", [["all", "all cells"], ["good", "the best"],
                      ["ended badly", "those without images"]],
             this.view.only, (only) => this.change({ ...this.view, only })),
      select("below each", sweep.metrics.map((metric, at) => [at, metric.label]), this.view.metric,
             (metric) => this.change({ ...this.view, metric: Number(metric) })));
    fill(this.controls, ...fields);
  }

  draw() {
    const found = layout(this.app.sweep, this.view);
    this.words = describer(this.app.sweep, this.view);
    this.layout = found;
    const count = found.count;
    this.count.textContent = count === 1 ? "1 image" : `${count.toLocaleString("en")} images`;
    this.grid.element.classList.toggle("empty", count === 0);
    this.grid.show(found, this.size);
  }

  change(view) {
    const active = document.activeElement?.closest?.(".field")?.firstChild.textContent;
    this.view = fittingView(this.app.sweep, view);
    this.remember();
    this.refresh();
    if (active) { // a select that was filled anew keeps the focus
      [...this.controls.querySelectorAll(".field")]
        .find((field) => field.firstChild.textContent === active)?.lastChild.focus();
    }
  }

  along(which, id) {
    const other = which === "columns" ? "rows" : "columns";
    const view = { ...this.view, [which]: id };
    if (view[other] === id) view[other] = this.view[which];
    this.change(view);
  }

  swap() { this.change({ ...this.view, columns: this.view.rows, rows: this.view.columns }); }

  zoom(step) {
    const at = SIZES.indexOf(this.size);
    const size = SIZES[Math.max(0, Math.min(at + step, SIZES.length - 1))];
    if (size === this.size) return;
    this.size = size;
    this.remember();
    this.grid.show(this.layout, size);
  }

  caption(place) {
    const score = place.cell.scores[this.view.metric];
    return score === null || score === undefined ? "" : score.toFixed(2);
  }

  mark({ cell }) {
    const exam = this.app.sweep.exams[this.view.exam];
    return cell.key === exam.best ? "best" : this.good.has(cell.key) ? "good" : "";
  }

  key(event) {
    const does = {
      "+": () => this.zoom(1), "=": () => this.zoom(1), "-": () => this.zoom(-1),
      x: () => this.swap(), p: () => this.png(), v: () => { location.hash = "vote"; },
    }[event.key];
    if (!does) return;
    event.preventDefault();
    does();
  }

  // The grid as it is shown, labelled, drawn by the server.
  async png() {
    const { sweep } = this.app;
    const { rows, columns, held, rowLabel, columnLabel } = this.layout;
    if (rows.length * columns.length > MOST_DRAWN) {
      notice(`${(rows.length * columns.length).toLocaleString("en")} images do not fit one picture: `
        + `filter some out, ${MOST_DRAWN.toLocaleString("en")} fit.`, true);
      return;
    }
    const title = [`${sweep.name}: ${rowLabel} × ${columnLabel}`,
                   ...held.map(([label, text]) => `${label} ${text}`)].join(" · ");
    const isRate = (label) => label === "learning rate";
    this.save.disabled = true;
    try {
      const answer = await send("/api/grid", {
        title: title.slice(0, 400),
        columns: columns.map((text) => (isRate(columnLabel) ? `lr ${text}` : text).slice(0, 400)),
        rows: rows.map((row) => [...row.groups.map(([label, text]) => `${label} ${text}`),
          isRate(rowLabel) ? `lr ${row.text}` : row.text].join(", ").slice(0, 400)),
        places: rows.map((row) => row.places.map((place) => ({
          images: place?.cell.images ?? null, number: place?.number ?? 0,
          note: place && !place.cell.images ? place.cell.state : "",
        }))),
      });
      const url = URL.createObjectURL(await answer.blob());
      h("a", { href: url, download: `${sweep.name}-grid.png` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60000);
      notice("The grid is saved as a PNG.");
    } catch (error) {
      notice(error.message, true);
    } finally {
      this.save.disabled = false;
    }
  }

  remember() {
    try {
      sessionStorage.setItem(this.memory, JSON.stringify({ ...this.view, size: this.size }));
    } catch { /* a browser that keeps nothing */ }
  }

  remembered() {
    try {
      const found = JSON.parse(sessionStorage.getItem(this.memory));
      if (found && !SIZES.includes(found.size)) delete found.size;
      return found;
    } catch { return null; }
  }
}

