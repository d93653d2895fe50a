// A grid of images of which only what is in view is in the page: rows and columns by number.
//
// Rows lie absolutely in a tall canvas; labels keep in view by `position: sticky`. What has focus
// stays in the page wherever it is scrolled to, so that the keyboard never loses its place.

import { fill, h } from "./dom.js";
import { thumbnailUrl, imageUrl } from "./api.js";

export const SIZES = [48, 64, 96, 128, 192, 256, 384];
const THUMBNAIL = 256; // pixels of a small version: above that, the image itself
const CAPTION = 22; // pixels below an image
const BARE = 80; // up to that size there is no room for words
const BEYOND = 1; // rows and columns kept on each side of what is in view

const TILE = h("div", { class: "tile", role: "gridcell", tabindex: -1 });
const IMAGE = h("img", { alt: "", decoding: "async", draggable: "false" });
const CAPTIONED = h("div", { class: "caption" });

export class Grid {
  // `words(place)` is read out, `caption(place)` stands below, `open(row, column)` is called.
  constructor({ words, caption, mark, open, zoom }) {
    this.words = words;
    this.caption = caption;
    this.mark = mark;
    this.open = open;
    this.rows = new Map();
    this.focus = [0, 0];
    this.frame = 0;
    this.head = h("div", { class: "row head", role: "row", "aria-rowindex": 1 });
    this.canvas = h("div", { class: "canvas", role: "presentation" });
    this.element = h("div", {
      class: "grid", role: "grid", "aria-label": "Images", tabindex: -1,
      onscroll: () => this.later(),
      onkeydown: (event) => this.key(event, zoom),
      onclick: (event) => this.click(event),
      onfocusin: (event) => this.focused(event),
    }, this.canvas);
    new ResizeObserver(() => this.later()).observe(this.element);
  }

  // Show another layout, or the same at another size; the place in the middle stays there.
  show(layout, size) {
    const middle = this.layout ? this.middle() : [0, 0];
    const kept = this.layout && this.layout.rows.length === layout.rows.length
      && this.layout.columns.length === layout.columns.length;
    const hadFocus = this.canvas.contains(document.activeElement)
      && document.activeElement.classList.contains("tile");
    this.layout = layout;
    this.size = size;
    this.high = size + (size > BARE ? CAPTION : 4);
    this.wide = size + 6;
    this.left = window.innerWidth < 700 ? 106 : 168;
    this.top = 34;
    this.rows.clear();
    this.focus = [Math.min(this.focus[0], Math.max(layout.rows.length - 1, 0)),
                  Math.min(this.focus[1], Math.max(layout.columns.length - 1, 0))];
    this.element.setAttribute("aria-rowcount", layout.rows.length + 1);
    this.element.setAttribute("aria-colcount", layout.columns.length + 1);
    this.canvas.style.width = `${this.left + layout.columns.length * this.wide}px`;
    this.canvas.style.height = `${this.top + layout.rows.length * this.high}px`;
    this.canvas.style.setProperty("--left", `${this.left}px`);
    this.canvas.style.setProperty("--size", `${size}px`);
    fill(this.canvas, this.head);
    this.heads();
    if (kept) this.centre(...middle);
    else this.element.scrollTo(0, 0);
    this.draw();
    if (hadFocus) this.go(...this.focus);
  }

  heads() {
    const corner = h("div", { class: "corner", role: "columnheader", "aria-colindex": 1 },
      h("span", {}, `${this.layout.rowLabel} ↓`), h("span", {}, `${this.layout.columnLabel} →`));
    this.head.style.height = `${this.top}px`;
    this.columns = new Map();
    fill(this.head, corner);
  }

  middle() {
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.element;
    return [(scrollTop + clientHeight / 2 - this.top) / this.high,
            (scrollLeft + clientWidth / 2 - this.left) / this.wide];
  }

  centre(row, column) {
    this.element.scrollTo(column * this.wide + this.left - this.element.clientWidth / 2,
                          row * this.high + this.top - this.element.clientHeight / 2);
  }

  later() {
    if (this.frame || !this.layout) return;
    this.frame = requestAnimationFrame(() => { this.frame = 0; this.draw(); });
  }

  draw() {
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.element;
    const within = (first, last, count) => [Math.max(Math.floor(first) - BEYOND, 0),
                                            Math.min(Math.ceil(last) + BEYOND, count)];
    const [top, bottom] = within(scrollTop / this.high,
      (scrollTop + clientHeight - this.top) / this.high, this.layout.rows.length);
    const [left, right] = within(scrollLeft / this.wide,
      (scrollLeft + clientWidth - this.left) / this.wide, this.layout.columns.length);
    const active = document.activeElement?.closest?.(".tile");

    for (const [index, row] of this.rows) {
      if ((index < top || index >= bottom) && !row.element.contains(active)) {
        row.element.remove();
        this.rows.delete(index);
      }
    }
    keep(this.columns, left, right, null);
    for (let column = left; column < right; column += 1) {
      if (!this.columns.has(column)) {
        const text = this.layout.columns[column];
        const head = h("div", { class: "column", role: "columnheader", title: text,
                                "aria-colindex": column + 2 }, text);
        head.style.left = `${this.left + column * this.wide}px`;
        head.style.width = `${this.size}px`;
        this.columns.set(column, head);
        this.head.append(head);
      }
    }
    for (let index = top; index < bottom; index += 1) {
      const row = this.rows.get(index) ?? this.addRow(index);
      keep(row.tiles, left, right, active);
      for (let column = left; column < right; column += 1) {
        if (!row.tiles.has(column)) this.addTile(row, index, column);
      }
    }
    const [focusRow, focusColumn] = this.focus;
    const tile = this.rows.get(focusRow)?.tiles.get(focusColumn);
    if (tile) this.tabbable(tile);
    else if (!this.tab?.isConnected) {
      const any = this.canvas.querySelector(".tile");
      if (any) this.tabbable(any);
    }
  }

  tabbable(tile) {
    if (this.tab && this.tab !== tile) this.tab.tabIndex = -1;
    tile.tabIndex = 0;
    this.tab = tile;
  }

  addRow(index) {
    const { text, groups } = this.layout.rows[index];
    const words = [...groups.map(([label, value]) => `${label} ${value}`), text];
    const label = h("div", { class: "label", role: "rowheader", title: words.join(" · "),
                             "aria-colindex": 1 },
      groups.map(([name, value]) => h("small", {}, `${name} ${value}`)), h("b", {}, text));
    const element = h("div", { class: "row", role: "row", "aria-rowindex": index + 2 }, label);
    element.style.top = `${this.top + index * this.high}px`;
    element.style.height = `${this.high}px`;
    const row = { element, tiles: new Map() };
    this.rows.set(index, row);
    this.canvas.append(element);
    return row;
  }

  addTile(row, index, column) {
    const place = this.layout.rows[index].places[column];
    const hasWords = this.size > BARE;
    const tile = TILE.cloneNode();
    tile.setAttribute("aria-colindex", column + 2);
    tile.setAttribute("aria-label", this.words(place));
    tile.style.cssText = `left:${this.left + column * this.wide}px;width:${this.size}px`;
    tile.place = [index, column];
    if (place?.cell.images) {
      const url = this.size > THUMBNAIL ? imageUrl : thumbnailUrl;
      const image = IMAGE.cloneNode();
      image.src = url(place.cell.images, place.number);
      tile.append(image);
    } else {
      const state = place ? place.cell.state : "not tried";
      tile.append(h("div", { class: `none ${place ? state : ""}` }, hasWords ? state : ""));
    }
    if (place) {
      const mark = this.mark(place);
      if (mark) tile.classList.add(mark);
      if (hasWords) {
        const caption = CAPTIONED.cloneNode();
        caption.textContent = this.caption(place);
        if (mark === "best") caption.append(h("span", { class: "star" }, "★"));
        tile.append(caption);
      }
    }
    row.tiles.set(column, tile);
    row.element.append(tile);
  }

  focused(event) {
    if (event.target.place) {
      this.focus = event.target.place;
      this.tabbable(event.target);
    }
  }

  click(event) {
    const tile = event.target.closest(".tile");
    if (tile && this.at(...tile.place)) this.open(...tile.place);
  }

  at(row, column) { return this.layout.rows[row]?.places[column] ?? null; }

  // Move the focus to a place, and it into view.
  go(row, column) {
    row = Math.max(0, Math.min(row, this.layout.rows.length - 1));
    column = Math.max(0, Math.min(column, this.layout.columns.length - 1));
    this.focus = [row, column];
    this.reveal(row, column);
    this.draw();
    this.rows.get(row)?.tiles.get(column)?.focus({ preventScroll: true });
  }

  reveal(row, column) {
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.element;
    const fit = (start, size, from, room) =>
      start < from ? start : start + size > from + room ? start + size - room : from;
    this.element.scrollTo(
      fit(column * this.wide, this.wide, scrollLeft, clientWidth - this.left),
      fit(row * this.high, this.high, scrollTop, clientHeight - this.top));
  }

  key(event, zoom) {
    if (!event.target.place || event.ctrlKey || event.metaKey || event.altKey) return;
    const [row, column] = event.target.place;
    const page = Math.max(1, Math.floor((this.element.clientHeight - this.top) / this.high) - 1);
    const moves = {
      ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column],
      PageUp: [row - page, column], PageDown: [row + page, column],
      Home: [row, 0], End: [row, this.layout.columns.length - 1],
    };
    if (moves[event.key]) this.go(...moves[event.key]);
    else if (event.key === "Enter" || event.key === " ") {
      if (this.at(row, column)) this.open(row, column);
    } else return;
    event.preventDefault();
  }
}

// Drop what lies outside of a span, but for what has the focus.
function keep(elements, first, last, active) {
  for (const [index, element] of elements) {
    if ((index < first || index >= last) && element !== active) {
      element.remove();
      elements.delete(index);
    }
  }
}
