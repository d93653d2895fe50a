// Progress: how far the sweep is, what is left, and which cells ended badly.

import { post } from "./api.js";
import { fill, h, notice } from "./dom.js";

export class Progress {
  constructor(app) {
    this.name = "progress";
    this.app = app;
    this.state = h("div", { class: "state" });
    this.element = h("section", { class: "progress", "aria-label": "Progress" },
      this.state, this.adding());
  }

  enter() { this.update(); }

  update() {
    const now = this.app.progress;
    const link = document.querySelector("nav a[href='#progress']");
    link.classList.toggle("running", Boolean(now?.running));
    if (!now || this.app.view !== this) return;
    const share = now.total ? now.ended / now.total : 0;
    const state = now.running ? "running" : now.finished ? "finished" : "not running";
    this.form.hidden = now.finished;
    fill(this.state,
      h("h2", {}, `${now.ended.toLocaleString("en")} of ${now.total.toLocaleString("en")} cells`),
      h("progress", { max: 1, value: share, "aria-label": "Cells that have ended" }),
      h("p", {}, [state, now.left].filter(Boolean).join(", "), "."),
      h("ul", { class: "states" }, Object.entries(now.states).map(([name, count]) =>
        h("li", { class: name }, h("b", {}, count.toLocaleString("en")), ` ${name}`))),
      now.asked.length
        ? h("p", {}, "Asked by hand: ", now.asked.join(", "), now.running ? "." : "; the sweep's command does it.")
        : null,
      now.failures.length
        ? h("table", {}, h("caption", {}, "Cells that have no images"),
          h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "cell"), h("th", { scope: "col" }, "state"),
                           h("th", { scope: "col" }, "why"))),
          h("tbody", {}, now.failures.map(({ label, state: own, reason }) => h("tr", {},
            h("th", { scope: "row" }, label), h("td", {}, own), h("td", {}, reason)))))
        : null);
  }

  // A value that an axis lacks, checked as the command line would check it.
  adding() {
    const axes = this.app.sweep.axes;
    const axis = h("select", {}, axes.map((one) => h("option", { value: one.name }, one.label)));
    const value = h("input", { type: "text", autocomplete: "off", required: true, maxlength: 100,
                               placeholder: "5e-4" });
    const button = h("button", {}, "Add");
    const told = h("p", { role: "status" });
    this.form = h("form", {
      class: "adding",
      onsubmit: async (event) => {
        event.preventDefault();
        button.disabled = true;
        told.className = "hint";
        told.textContent = "Being checked …";
        try {
          await post("/api/add", { axis: axis.value, value: value.value.trim() });
          told.textContent = "It is added.";
          value.value = "";
          notice("The value is added; its cells are begun before the next step.");
        } catch (error) {
          told.className = "bad";
          told.textContent = error.message;
        } finally {
          button.disabled = false;
        }
      },
    },
    h("h2", {}, "Add a value to an axis"),
    h("label", { class: "field" }, h("span", {}, "axis"), axis),
    h("label", { class: "field" }, h("span", {}, "value, as it is typed"), value),
    button, told);
    return this.form;
  }
}
