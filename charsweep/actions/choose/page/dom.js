// Elements out of names, properties and children. Text is only ever set as text.

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...there(children));
  return element;
}

// Other children instead; those that are null are left out.
export function fill(element, ...children) {
  element.replaceChildren(...there(children));
}

const there = (children) => children.flat()
  .filter((child) => child !== null && child !== undefined);

let timer = 0;

// A line that is read out and goes away by itself.
export function notice(text, isProblem = false) {
  const line = document.getElementById("notice");
  line.textContent = text;
  line.classList.toggle("problem", isProblem);
  clearTimeout(timer);
  timer = setTimeout(() => { line.textContent = ""; }, isProblem ? 12000 : 5000);
}

// A select with a label: options are [value, text].
export function select(label, options, chosen, change) {
  const box = h("select", { onchange: () => change(box.value) },
    options.map(([value, text]) => h("option", { value }, text)));
  box.value = chosen;
  return h("label", { class: "field" }, h("span", {}, label), box);
}
