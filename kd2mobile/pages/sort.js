"use strict";
const collator = new Intl.Collator(document.documentElement.lang, { numeric: true });

function known(cell, isNumber) {
  const text = (cell.dataset.value ?? cell.textContent).trim();
  if (text === "" || text === "–") return null;
  const number = Number(text.replace(/[,%+\s]/g, ""));
  return !isNumber ? text : Number.isNaN(number) ? null : number;
}

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  if (original.length < 2) continue;

  function sort(heading) {
    const next = { none: "ascending", ascending: "descending", descending: "none" }[heading.ariaSort];
    for (const other of headings) if (other.ariaSort) other.ariaSort = "none";
    heading.ariaSort = next;
    const column = headings.indexOf(heading);
    const isNumber = heading.classList.contains("num");
    const compare = isNumber ? (one, other) => one - other : collator.compare;
    const rows = original.map((row) => [known(row.cells[column], isNumber), row]);
    const sign = next === "descending" ? -1 : 1;
    if (next !== "none") {
      rows.sort(([one], [other]) => (one === null) - (other === null) || (one === null ? 0 : sign * compare(one, other)));
    }
    body.append(...rows.map(([, row]) => row));
    body.classList.toggle("sorted", next !== "none");
  }

  for (const heading of headings) {
    if (heading.classList.contains("unsorted")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(heading));
    heading.append(button);
    heading.ariaSort = "none";
  }
  const hint = document.createElement("span");
  hint.className = "vh";
  hint.textContent = " (the buttons in the column headings sort)";
  table.caption.append(hint);
}

let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const one of opened) one.open = true;
});
addEventListener("afterprint", () => {
  for (const one of opened) one.open = false;
});
