// Draws <figure class="curves" data-curves="[{name, points: [[hours since sending, share], ...]}, ...]"> with uPlot,
// above the table of the figure. The figure is complete without the chart.
(function () {
  "use strict";

  const DAY = 24;
  const TICKS = [1, 3, 6, 12, DAY, 2 * DAY, 4 * DAY, 7 * DAY, 14 * DAY, 30 * DAY];
  const COLOURS = 6, DASHES = [[], [8, 4], [2, 3], [12, 4, 2, 4]];
  const colourName = (i) => `--curve-${(i % COLOURS) + 1}`;
  const percent = (share) => (share == null ? "\u2013" : `${(100 * share).toFixed(1)}%`);

  function since(hours) {
    if (hours < 1) return `${Math.round(60 * hours)} min`;
    return hours < 2 * DAY ? `${Math.round(hours)} h` : `${Math.round(hours / DAY)} d`;
  }

  // Returns the hours of all points, and the shares of each curve at them. null where a curve has no point.
  function toColumns(curves) {
    const columns = curves.map(({ points }) => [points.map((point) => point[0]), points.map((point) => point[1])]);
    return columns.length > 1 ? uPlot.join(columns) : columns[0];
  }

  // Returns the share of a curve at the last of its points that is not later.
  function shareAt(points, hours) {
    const last = points.at(-1)[0];
    return hours > last ? null : points.findLast((point) => point[0] <= hours)?.[1] ?? null;
  }

  function draw(figure) {
    const curves = JSON.parse(figure.dataset.curves);
    const colour = (name) => getComputedStyle(figure).getPropertyValue(name).trim();
    const font = `12px ${getComputedStyle(figure).fontFamily}`;
    const plot = document.createElement("div"), said = document.createElement("p");
    plot.className = "plot";
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", `Curves of ${curves.map(({ name }) => name).join(", ")}; the numbers are in the table below`);
    said.className = "said";
    said.hidden = true;
    plot.append(said);
    figure.querySelector("figcaption").after(plot);
    figure.classList.add("drawn");
    figure.querySelectorAll(".swatch").forEach((swatch, i) => { swatch.classList.add(`curve-${(i % COLOURS) + 1}`); });

    function showValues(u) {
      const { left, top } = u.cursor;
      said.hidden = !(left >= 0);
      if (said.hidden) return;
      const hours = u.posToVal(left, "x");
      const when = document.createElement("b");
      when.textContent = `${since(hours)} after sending`;
      said.replaceChildren(when, ...curves.map(({ name, points }, i) => {
        const line = document.createElement("span"), swatch = document.createElement("i"), text = document.createElement("bdi");
        swatch.className = `swatch curve-${(i % COLOURS) + 1}`;
        text.textContent = name.length > 40 ? `${name.slice(0, 40)}\u2026` : name;
        line.append(swatch, text, ` ${percent(shareAt(points, hours))}`);
        return line;
      }));
      const isLate = left > u.over.clientWidth / 2;
      said.classList.toggle("late", isLate);
      const { offsetLeft } = u.over.parentElement === plot ? u.over : u.over.parentElement;
      const x = offsetLeft + u.over.offsetLeft + left;
      said.style.left = isLate ? "" : `${x + 12}px`;
      said.style.right = isLate ? `${plot.clientWidth - x + 12}px` : "";
    }

    const first = Math.min(1, ...curves.map(({ points }) => points[0][0]).filter((hours) => hours > 0));
    const last = Math.max(2, ...curves.map(({ points }) => points.at(-1)[0]));
    const stroke = () => colour("--dim"), grid = { stroke: () => colour("--line"), width: 1 };
    const size = () => ({ width: Math.max(plot.clientWidth, 120), height: plot.clientHeight });
    const u = new uPlot({
      ...size(),
      padding: [10, 16, 0, 0],
      legend: { show: false },
      scales: {
        x: { time: false, distr: 3, range: () => [first, last] },
        y: { range: (u, lowest, highest) => [0, Math.max(highest * 1.1, 0.01)] },
      },
      series: [{}, ...curves.map(({ name }, i) => ({
        label: name, stroke: () => colour(colourName(i)), width: 2, spanGaps: true,
        dash: DASHES[Math.floor(i / COLOURS) % DASHES.length], points: { show: false },
      }))],
      axes: [
        {
          stroke, font, size: 28, gap: 6, grid: { show: false }, ticks: { ...grid, size: 4 },
          splits: () => TICKS.filter((hours) => hours >= first && hours <= last),
          filter: (u, splits) => splits,
          values: (u, splits) => splits.map(since),
        },
        { stroke, font, size: 46, gap: 6, grid, ticks: { show: false }, values: (u, values) => values.map((value) => `${+(100 * value).toFixed(1)}%`) },
      ],
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      hooks: { setCursor: [showValues] },
    }, toColumns(curves), plot);
    new ResizeObserver(() => u.setSize(size())).observe(plot);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => u.redraw(false));
  }

  for (const figure of document.querySelectorAll("figure[data-curves]")) {
    try {
      draw(figure);
    } catch (error) {
      figure.querySelector(".plot")?.remove(); // the table has the numbers
    }
  }
})();
