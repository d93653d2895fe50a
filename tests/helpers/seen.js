// What can be told of a page's accessibility by computing it: names, contrast, what is cut off.
// Returns a list of complaints.

const complaints = [];
const isSeen = (element) => {
  const box = element.getBoundingClientRect();
  return box.width > 1 && box.height > 1 && getComputedStyle(element).visibility === "visible";
};
const shown = [...document.body.querySelectorAll("*")].filter(isSeen);
const top = document.querySelector("dialog[open]");
const here = top ? shown.filter((element) => top.contains(element)) : shown;

// -- every control has a name, every image a description

const nameOf = (element) => element.getAttribute("aria-label")
  || (element.labels?.[0]?.firstChild?.textContent ?? "") || element.title
  || [...element.querySelectorAll("img")].map((image) => image.alt).join("")
  || (element.tagName === "SELECT" ? "" : element.textContent.trim());
for (const element of here) {
  if (element.matches("button, a, select, input, summary, [tabindex='0'], [role=gridcell]")
      && !nameOf(element)) complaints.push(`no name: ${element.outerHTML.slice(0, 120)}`);
  if (element.matches("img") && element.getAttribute("alt") === null) {
    complaints.push(`no description: ${element.outerHTML.slice(0, 120)}`);
  }
  if (element.matches("progress") && !element.getAttribute("aria-label")) complaints.push("progress");
}
if (document.documentElement.lang !== "en") complaints.push("the page says no language");
if (document.querySelectorAll("h1").length !== 1) complaints.push("there is not one h1");
const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
if (new Set(ids).size < ids.length) complaints.push("an id stands twice");

// -- contrast of all text, WCAG 2.2, 1.4.3

const colour = (text) => {
  const numbers = text.match(/[\d.]+/g).map(Number);
  return [numbers[0], numbers[1], numbers[2], numbers[3] ?? 1];
};
const luminance = ([red, green, blue]) => {
  const linear = [red, green, blue].map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const found = colour(getComputedStyle(at).backgroundColor);
    if (found[3] > 0.99) return found;
  }
  return [255, 255, 255, 1];
};
for (const element of here) {
  const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!hasText || element.matches("option, :disabled, .skip")) continue;
  const [one, other] = [colour(getComputedStyle(element).color), behind(element)].map(luminance);
  const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (ratio < 4.5) {
    complaints.push(`contrast ${ratio.toFixed(2)}: ${element.className} ${element.textContent.slice(0, 40)}`);
  }
}

// -- nothing is wider than the window

const wide = document.documentElement.scrollWidth;
if (wide > window.innerWidth) complaints.push(`${wide} pixels wide, the window ${window.innerWidth}`);
return complaints;
