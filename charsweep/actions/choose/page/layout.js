// Which image stands where: a sweep and a view of it in, rows and columns of places out. Pure.
//
// A view says which dimension runs along the columns and which down the rows, and holds each of the
// others at a value or at ALL; those held at ALL become rows too, in groups.

export const ALL = "all";
export const PROMPT = "exam prompt";
export const SEED = "exam seed";

// What can vary: the axes of the sweep, the prompts and the seeds of the exam.
export function dimensions(sweep, exam) {
  const { prompts, seeds } = sweep.exams[exam];
  const axes = sweep.axes.map((axis, at) => ({
    id: `axis ${axis.name}`, label: axis.label, values: axis.values, of: (cell) => cell.at[at],
  }));
  return [
    ...axes,
    { id: PROMPT, label: "prompt", values: shortened(prompts), image: true },
    { id: SEED, label: "exam seed", values: seeds.map(String), image: true },
  ].filter((one) => !one.image || one.values.length);
}

// Prompts without the words that all of them begin with: "… jumping", "… on the beach".
export function shortened(prompts) {
  if (prompts.length < 2) return prompts;
  const words = prompts.map((prompt) => prompt.split(" "));
  const most = Math.min(...words.map((own) => own.length)) - 1;
  let common = 0;
  while (common < most && words.every((own) => own[common] === words[0][common])) common += 1;
  return common < 2 ? prompts : words.map((own) => `… ${own.slice(common).join(" ")}`);
}

// A view to begin with: all cells, each by its first image.
export function firstView(sweep, exam) {
  const known = dimensions(sweep, exam);
  const axes = known.filter((one) => !one.image && one.values.length > 1);
  const images = known.filter((one) => one.image);
  const bySize = [...axes].sort((a, b) => b.values.length - a.values.length);
  const columns = bySize[0] ?? images[1] ?? images[0];
  const rows = bySize[1] ?? images.find((one) => one !== columns) ?? columns;
  const held = {};
  for (const one of known) held[one.id] = one.image ? 0 : ALL;
  return { exam, columns: columns.id, rows: rows.id, held, only: "all", metric: 0 };
}

// A view that fits: what it names is there. Else one to begin with.
export function fittingView(sweep, view) {
  if (!view || !sweep.exams[view.exam]) return firstView(sweep, 0);
  const known = new Map(dimensions(sweep, view.exam).map((one) => [one.id, one]));
  if (!known.has(view.columns) || !known.has(view.rows) || view.columns === view.rows) {
    return firstView(sweep, view.exam);
  }
  const held = {};
  for (const [id, one] of known) {
    const value = view.held?.[id];
    const fits = value === ALL || (Number.isInteger(value) && value < one.values.length);
    held[id] = fits ? value : one.image ? 0 : ALL;
  }
  const metric = view.metric < sweep.metrics.length ? view.metric : 0;
  return { ...view, held, metric };
}

const range = (count) => Array.from({ length: count }, (_, index) => index);

export function layout(sweep, view) {
  const known = dimensions(sweep, view.exam);
  const column = known.find((one) => one.id === view.columns);
  const row = known.find((one) => one.id === view.rows);
  const others = known.filter((one) => one !== column && one !== row);
  const groups = others.filter((one) => view.held[one.id] === ALL && one.values.length > 1);
  const exam = sweep.exams[view.exam];
  const good = new Set(exam.good);

  const isFree = (one) => one === column || one === row || groups.includes(one);
  const spans = [PROMPT, SEED].map((id) => {
    const one = known.find((other) => other.id === id);
    if (!one) return [0];
    return isFree(one) ? range(one.values.length) : [view.held[id] === ALL ? 0 : view.held[id]];
  });
  const rowParts = [...groups, row];
  const rows = new Map();
  const columns = new Set();
  let count = 0;

  for (const cell of sweep.cells) {
    if (cell.exam !== view.exam) continue;
    if (view.only === "good" && !good.has(cell.key)) continue;
    if (view.only === "ended badly" && cell.state === "finished") continue;
    if (others.some((one) => !one.image && !isFree(one) && view.held[one.id] !== ALL
                    && one.of(cell) !== view.held[one.id])) continue;
    for (const prompt of spans[0]) {
      for (const seed of spans[1]) {
        const at = (one) => one.id === PROMPT ? prompt : one.id === SEED ? seed : one.of(cell);
        const values = rowParts.map(at);
        const name = values.join(" ");
        if (!rows.has(name)) rows.set(name, { values, places: new Map() });
        const across = at(column);
        const places = rows.get(name).places;
        const there = places.get(across);
        if (there && there.cell.images && !cell.images) continue;
        if (!there) count += 1;
        places.set(across, { cell, prompt, seed, number: prompt * exam.seeds.length + seed });
        columns.add(across);
      }
    }
  }

  const last = (value) => value < 0 ? Infinity : value;
  const order = (a, b) => {
    for (const index of range(rowParts.length)) {
      if (a.values[index] !== b.values[index]) return last(a.values[index]) - last(b.values[index]);
    }
    return 0;
  };
  const across = [...columns].sort((a, b) => last(a) - last(b));
  const text = (one, value) => value < 0 ? "–" : one.values[value];
  return {
    columns: across.map((value) => text(column, value)),
    columnLabel: column.label,
    rowLabel: row.label,
    rows: [...rows.values()].sort(order).map((one) => ({
      text: text(row, one.values.at(-1)),
      groups: groups.map((group, at) => [group.label, text(group, one.values[at])]),
      places: across.map((value) => one.places.get(value) ?? null),
    })),
    held: others.filter((one) => !groups.includes(one) && one.values.length > 1
                        && view.held[one.id] !== ALL)
      .map((one) => [one.label, text(one, view.held[one.id])]),
    count,
  };
}

// What says a place in words, for those who do not see it.
export function describer(sweep, view) {
  const known = dimensions(sweep, view.exam).filter((one) => !one.image && one.values.length > 1);
  const { prompts, seeds } = sweep.exams[view.exam];
  const metric = sweep.metrics[view.metric]?.label;
  return (place) => {
    if (!place) return "not tried";
    const { cell, prompt, seed } = place;
    const words = [];
    for (const one of known) {
      const at = one.of(cell);
      if (at >= 0) words.push(`${one.label} ${one.values[at]}`);
    }
    if (prompts.length) words.push(prompts[prompt]);
    if (seeds.length > 1) words.push(`exam seed ${seeds[seed]}`);
    const score = cell.scores[view.metric] ?? null;
    words.push(!cell.images ? cell.state
      : score === null ? "no score" : `${metric} ${score.toFixed(2)}`);
    return words.join(", ");
  };
}
