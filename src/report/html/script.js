// Sorting by a click on a heading. Without JavaScript the tables stay as they were written.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const value = (row, index) => {
    const cell = row.cells[index];
    return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
  };
  for (const th of table.tHead.rows[0].cells) {
    if (th.hasAttribute("data-plain")) continue;
    const button = document.createElement("button");
    button.append(...th.childNodes);
    th.append(button);
    button.addEventListener("click", () => {
      const numeric = th.classList.contains("n");
      const before = th.getAttribute("aria-sort");
      const down = before ? before === "ascending" : numeric;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      th.setAttribute("aria-sort", down ? "descending" : "ascending");
      const hidden = [...body.rows].filter((row) => row.classList.contains("hidden")).length;
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a, th.cellIndex), value(b, th.cellIndex)];
        const order = typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true });
        return down ? -order : order;
      });
      rows.forEach((row, index) => row.classList.toggle("hidden", index >= rows.length - hidden));
      body.append(...rows);
    });
  }
}
