// Draws <figure class="curves" data-curves="[{name, points, estimate}, ...]"> with uPlot, above the table of the
// figure. points: [[hours since sending, share, upper bound (may be left out)], ...]. estimate: [share, text] or
// null. The figure is complete without the chart. The event `redrawn` on the document draws figures that are new.
(function () {
  "use strict";

  const DAY = 24;
  const TICKS = [0, 0.25, 0.5, 1, 3, 6, 12, DAY, 2 * DAY, 4 * DAY, 7 * DAY, 14 * DAY, 30 * DAY];
  const ROUNDING = 1e-9; // error of hours that are computed from a place in px
  const STEPS = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2]; // between two lines of the vertical axis
  const MAX_STEPS = 6;
  const TICK_GAP = 44; // px between two labels of the horizontal axis
  const COLOURS = 6, DASHES = [[], [8, 4], [2, 3], [12, 4, 2, 4]];
  const colourName = (i) => `--curve-${(i % COLOURS) + 1}`;
  const percent = (share) => (share == null ? "\u2013" : `${(100 * share).toFixed(1)}%`);
  const whole = (share, round) => (round(100 * share) || !share ? `${round(100 * share)}%` : "under 1%");

  function since(hours) {
    if (hours < 1) return `${Math.round(60 * hours)} min`;
    return hours < 2 * DAY && hours !== DAY ? `${Math.round(hours)} h` : `${Math.round(hours / DAY)} d`;
  }

  // Returns the hours of all points, and two columns a curve: shares and upper bounds. null where a curve has none.
  function toColumns(curves) {
    const columns = curves.map(({ points }) => [0, 1, 2].map((i) => points.map((point) => point[i] ?? null)));
    return columns.length > 1 ? uPlot.join(columns) : columns[0];
  }

  // Returns the last point of a curve that is not later, null after its end.
  function pointAt(points, hours) {
    if (hours * (1 - ROUNDING) > points.at(-1)[0]) return null;
    return points.findLast((point) => point[0] <= hours * (1 + ROUNDING)) ?? null;
  }

  // Returns the shares of a curve as text: "27%, with machines 54%". The low end is rounded down, the high end up.
  function shares({ points, isWhole }, hours) {
    const [, low, high] = pointAt(points, hours) ?? [];
    const [people, machines] = [[low, Math.floor], [high, Math.ceil]].map(([share, round]) =>
      (isWhole && share != null ? whole(share, (value) => round(+value.toFixed(6))) : percent(share)));
    return `${people}${high == null ? "" : `, with machines ${machines}`}`;
  }

  // Returns the ticks that have room on an axis whose scale is asinh. The last tick is the end of the curves.
  function ticks(last, width) {
    const place = (hours) => width * Math.asinh(hours) / Math.asinh(last);
    const kept = [];
    for (const hours of TICKS.filter((each) => each < last)) {
      if (!kept.length || place(hours) - place(kept.at(-1)) >= TICK_GAP) kept.push(hours);
    }
    while (kept.length > 1 && place(last) - place(kept.at(-1)) < TICK_GAP) kept.pop();
    return [...kept, last];
  }

  // Returns the lines of the vertical axis, from 0 to a line above the highest share, or to 1.
  function lines(highest) {
    const step = STEPS.find((each) => highest <= MAX_STEPS * each) ?? STEPS.at(-1);
    const steps = highest < 1 ? Math.floor(highest / step + ROUNDING) + 1 : Math.ceil(highest / step - ROUNDING);
    return Array.from({ length: steps + 1 }, (_, i) => i * step);
  }

  function draw(figure) {
    const curves = JSON.parse(figure.dataset.curves);
    const colour = (name) => getComputedStyle(figure).getPropertyValue(name).trim();
    const font = `12px ${getComputedStyle(figure).fontFamily}`;
    const plot = document.createElement("div"), values = document.createElement("p");
    plot.className = "plot";
    values.className = "values";
    values.hidden = true;
    plot.append(values);
    figure.querySelector("figcaption").after(plot);
    figure.classList.add("drawn");
    figure.querySelectorAll(".swatch").forEach((swatch, i) => { swatch.classList.add(`curve-${(i % COLOURS) + 1}`); });

    function showValues(u) {
      const { left } = u.cursor;
      values.hidden = !(left >= 0);
      if (values.hidden) return;
      const hours = u.posToVal(left, "x");
      const when = document.createElement("b");
      when.textContent = `${since(hours)} after sending`;
      values.replaceChildren(when, ...curves.map((curve, i) => {
        const line = document.createElement("span"), swatch = document.createElement("i"), text = document.createElement("bdi");
        swatch.className = `swatch curve-${(i % COLOURS) + 1}`;
        text.textContent = curve.name.length > 40 ? `${curve.name.slice(0, 40)}\u2026` : curve.name;
        line.append(swatch, text, ` ${shares(curve, hours)}`);
        return line;
      }));
      const isLate = left > u.over.clientWidth / 2;
      values.classList.toggle("late", isLate);
      const { offsetLeft } = u.over.parentElement === plot ? u.over : u.over.parentElement;
      const x = offsetLeft + u.over.offsetLeft + left;
      values.style.left = isLate ? "" : `${x + 12}px`;
      values.style.right = isLate ? `${plot.clientWidth - x + 12}px` : "";
    }

    // Draws each estimate as a circle at the end of its curve, with its text if there is one curve only.
    function drawEstimates(u) {
      const { ctx } = u, ratio = devicePixelRatio;
      ctx.save();
      curves.forEach(({ points, estimate }, i) => {
        if (!estimate) return;
        const x = u.valToPos(points.at(-1)[0], "x", true), y = u.valToPos(estimate[0], "y", true);
        ctx.strokeStyle = colour(colourName(i));
        ctx.fillStyle = colour("--back");
        ctx.lineWidth = 2 * ratio;
        ctx.beginPath();
        ctx.arc(x - 5 * ratio, y, 4 * ratio, 0, 2 * Math.PI);
        ctx.fill();
        ctx.stroke();
        if (curves.length > 1) return;
        ctx.fillStyle = colour("--text");
        ctx.font = font.replace("12px", `${12 * ratio}px`);
        ctx.textAlign = "right";
        ctx.textBaseline = "middle";
        ctx.fillText(`${estimate[1]} estimated`, x - 14 * ratio, y);
      });
      ctx.restore();
    }

    const last = Math.max(...curves.map(({ points }) => points.at(-1)[0]));
    const shown = curves.flatMap(({ points, estimate }) => [...points.flatMap((point) => point.slice(1)), estimate?.[0] ?? 0]);
    const yLines = lines(Math.max(...shown));
    const stroke = () => colour("--dim"), grid = { stroke: () => colour("--line"), width: 1 };
    const size = () => ({ width: Math.max(plot.clientWidth, 120), height: plot.clientHeight });
    const u = new uPlot({
      ...size(),
      padding: [10, 16, 0, 0],
      legend: { show: false },
      scales: {
        x: { time: false, distr: 4, asinh: 1, range: () => [0, last] },
        y: { range: () => [0, yLines.at(-1)] },
      },
      series: [{}, ...curves.flatMap(({ name }, i) => [
        {
          label: name, stroke: () => colour(colourName(i)), width: 2, spanGaps: true,
          dash: DASHES[Math.floor(i / COLOURS) % DASHES.length], points: { show: false },
        },
        { spanGaps: true, points: { show: false } },
      ])],
      bands: curves.map((_, i) => ({ series: [2 * i + 2, 2 * i + 1], fill: () => colour("--band") })),
      axes: [
        {
          stroke, font, size: 28, gap: 6, grid: { show: false }, ticks: { ...grid, size: 4 },
          splits: (u) => ticks(last, u.bbox.width / devicePixelRatio || u.width),
          filter: (u, splits) => splits,
          values: (u, splits) => splits.map((hours) => (hours ? since(hours) : "sent")),
        },
        { stroke, font, size: 46, gap: 6, grid, ticks: { show: false }, splits: () => yLines, filter: (u, splits) => splits, values: (u, splits) => splits.map((value) => `${+(100 * value).toFixed(1)}%`) },
      ],
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      hooks: { setCursor: [showValues], draw: [drawEstimates] },
    }, toColumns(curves), plot);
    figure.uplot = u;
    const canvas = u.root.querySelector("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Curves of ${curves.map(({ name }) => name).join(", ")}; the numbers are in the table below`);
    steerChart(u, {
      label: "Values of the curves by time since sending: move with the arrow keys",
      stops: () => ticks(last, u.over.clientWidth).map((hours) => ({
        left: u.valToPos(hours, "x"),
        text: [`${since(hours)} after sending`, ...curves.map((curve) => `${curve.name} ${shares(curve, hours)}`)].join(", "),
      })),
    });
    new ResizeObserver(() => u.setSize(size())).observe(plot);
  }

  function drawNew() {
    for (const figure of document.querySelectorAll("figure[data-curves]:not(.drawn)")) {
      try {
        draw(figure);
      } catch (error) {
        figure.querySelector(".plot")?.remove(); // the table has the numbers
      }
    }
  }

  drawNew();
  document.addEventListener("redrawn", drawNew);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const figure of document.querySelectorAll("figure.drawn")) figure.uplot?.redraw(false);
  });
})();
