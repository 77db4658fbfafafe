"use strict";
// Sorting and filtering. Without this script, tables show all rows in their original order.
const FILTERED = 20; // A table with more rows gets a filter.
const collator = new Intl.Collator("en", { numeric: true });

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const rows = [...body.rows]; // In the original order, which equal rows keep.
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    if (!header.textContent) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const sign = header.ariaSort === "ascending" ? -1 : 1;
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.ariaSort = sign > 0 ? "ascending" : "descending";
      body.append(...sorted(rows, column, header.classList.contains("number"), sign));
    });
  });
  if (rows.length > FILTERED) addFilter(table, rows);
}

// Rows with an unknown value (an empty key) come last in both directions.
function sorted(rows, column, numeric, sign) {
  const keys = new Map(rows.map((row) => [row, key(row.cells[column])]));
  return [...rows].sort((one, two) => {
    const [a, b] = [keys.get(one), keys.get(two)];
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * (numeric ? a - b : collator.compare(a, b));
  });
}

function key(cell) {
  return cell.dataset.sort ?? cell.textContent;
}

function addFilter(table, rows) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "search" });
  const count = document.createElement("output");
  label.className = "filter";
  label.append("Filter rows ", input, count);
  table.parentElement.before(label);
  const texts = rows.map((row) => [...row.cells].map((cell) => cell.textContent.toLowerCase()).join(" "));
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    rows.forEach((row, at) => (row.hidden = !words.every((word) => texts[at].includes(word))));
    const shown = rows.filter((row) => !row.hidden).length;
    count.textContent = shown < rows.length ? ` ${shown} of ${rows.length}` : "";
  });
}
