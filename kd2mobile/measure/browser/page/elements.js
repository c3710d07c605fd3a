// The page's elements and the numbers on it. Names come from the files: they are text, never HTML.

export const byId = (id) => document.getElementById(id);

export function element(tag, text = null) {
  const created = document.createElement(tag);
  created.textContent = text;
  return created;
}

/** Three digits that count. */
export const round = (value) =>
    !Number.isFinite(value) ? '–' : value < 1 ? value.toFixed(3) : value < 999.5 ? value.toPrecision(3) : value.toFixed(0);
