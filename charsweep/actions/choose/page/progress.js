// Progress: how far the sweep is, what is left, and which cells ended badly.

import { fill, h } from "./dom.js";

export class Progress {
  constructor(app) {
    this.name = "progress";
    this.app = app;
    this.element = h("section", { class: "progress", "aria-label": "Progress" });
  }

  enter() { this.update(); }

  update() {
    const now = this.app.progress;
    const link = document.querySelector("nav a[href='#progress']");
    link.classList.toggle("running", Boolean(now?.running));
    if (!now || this.app.view !== this) return;
    const share = now.total ? now.ended / now.total : 0;
    const state = now.running ? "running" : now.finished ? "finished" : "not running";
    fill(this.element,
      h("h2", {}, `${now.ended.toLocaleString("en")} of ${now.total.toLocaleString("en")} cells`),
      h("progress", { max: 1, value: share, "aria-label": "Cells that have ended" }),
      h("p", {}, [state, now.left].filter(Boolean).join(", "), "."),
      h("ul", { class: "states" }, Object.entries(now.states).map(([name, count]) =>
        h("li", { class: name }, h("b", {}, count.toLocaleString("en")), ` ${name}`))),
      now.failures.length
        ? h("table", {}, h("caption", {}, "Cells that ended badly"),
          h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "cell"), h("th", { scope: "col" }, "state"),
                           h("th", { scope: "col" }, "why"))),
          h("tbody", {}, now.failures.map(({ label, state: own, reason }) => h("tr", {},
            h("th", { scope: "row" }, label), h("td", {}, own), h("td", {}, reason)))))
        : null);
  }
}
