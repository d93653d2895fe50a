// The page: which view is shown, the sweep as it was fetched last, and keys that work everywhere.

import { get } from "./api.js";
import { fill, h, notice } from "./dom.js";
import { Look } from "./look.js";
import { Progress } from "./progress.js";
import { Vote } from "./vote.js";

const LOOK_AGAIN = 4000; // milliseconds between two looks at a sweep that is running
const AT_REST = 20000; // at one that is not

export const app = { sweep: null, progress: null, view: null };

const views = {};
const main = document.getElementById("main");

async function fetchSweep() {
  app.sweep = await get("/api/sweep");
  document.title = `${app.sweep.name} · charsweep`;
  document.getElementById("name").textContent = app.sweep.name;
  document.getElementById("question").textContent = app.sweep.question;
}

function route() {
  const [name, argument] = location.hash.slice(1).split("/");
  const next = views[name] ?? views.look;
  for (const link of document.querySelectorAll("nav a")) {
    const isHere = link.hash === `#${next.name}`;
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (app.view !== next) {
    app.view?.leave?.();
    app.view = next;
    fill(main, next.element);
    main.dataset.view = next.name;
  }
  next.enter(argument);
}

async function watch() {
  try {
    if (!document.hidden) {
      app.progress = await get("/api/progress");
      if (app.progress.version !== app.sweep.version) {
        await fetchSweep();
        app.view.refresh?.();
      }
      views.progress.update();
      document.body.classList.remove("away");
    }
  } catch {
    document.body.classList.add("away");
    notice("The server does not answer; start action=choose again, this page goes on then.", true);
  }
  const isBusy = app.progress?.running || document.body.classList.contains("away");
  setTimeout(watch, isBusy ? LOOK_AGAIN : AT_REST);
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea, dialog")) return;
  app.view?.key?.(event);
}

async function begin() {
  try {
    await fetchSweep();
  } catch (error) {
    fill(main, h("p", { class: "empty" }, error.message));
    return;
  }
  Object.assign(views, { look: new Look(app), vote: new Vote(app), progress: new Progress(app) });
  window.addEventListener("hashchange", route);
  document.addEventListener("keydown", keys);
  route();
  watch();
}

begin();
