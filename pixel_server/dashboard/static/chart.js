// Draws each <figure class="chart" data-chart="URL of stats as JSON" data-unit="opens or views"> with uPlot.
// The event `reload` on a figure loads its data again. Errors are shown as a message, and never break the page.
(function () {
  "use strict";

  const SERIES = {
    opens: [["opens", "Opens"], ["unique_opens", "Unique opens"]],
    views: [["views", "Views"], ["visits", "Visits"]],
  };
  const STEP = { "15m": 900, hour: 3600, day: 86400 };
  const DAY = 86400, MONTH = 30 * DAY, YEAR = 365 * DAY;
  // uPlot recognizes months and years by exactly these numbers.
  const STEPS = [
    900, 1800, 3600, 7200, 10800, 21600, 43200, DAY, 2 * DAY, 3 * DAY, 5 * DAY, 7 * DAY, 10 * DAY, 15 * DAY,
    MONTH, 2 * MONTH, 3 * MONTH, 6 * MONTH, YEAR, 2 * YEAR, 5 * YEAR, 10 * YEAR,
  ];
  const MAX_NOTES = 4; // notes shown at one mark
  const UNKNOWN = "\u2013";
  const FAILED = "The chart could not be loaded. The numbers are in the table below.";
  const fullNumber = new Intl.NumberFormat("en-US");
  const shortNumber = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

  const number = (value) => (value == null ? UNKNOWN : fullNumber.format(value));
  const hasValue = (values) => values.some((value) => value != null);

  function element(name, kind, parent, text) {
    const node = document.createElement(name);
    node.className = kind;
    if (text != null) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  }

  // Formats seconds as text in a time zone, or in UTC if the browser does not know the zone.
  function calendar(zone) {
    const options = {
      weekday: "short", day: "numeric", month: "short", year: "numeric",
      hour: "2-digit", minute: "2-digit", hourCycle: "h23",
    };
    let format;
    try {
      format = new Intl.DateTimeFormat("en-US", { ...options, timeZone: zone });
    } catch (error) {
      zone = "UTC";
      format = new Intl.DateTimeFormat("en-US", { ...options, timeZone: zone });
    }
    const parts = (at) =>
      Object.fromEntries(format.formatToParts(at * 1000).map((part) => [part.type, part.value]));
    return {
      zone,
      day(at) { const p = parts(at); return `${p.day} ${p.month}`; },
      date(at) { const p = parts(at); return `${p.day} ${p.month} ${p.year}`; },
      month(at) { const p = parts(at); return `${p.month} ${p.year}`; },
      year(at) { return parts(at).year; },
      time(at) { const p = parts(at); return `${p.hour}:${p.minute}`; },
      exact(at, step) {
        const p = parts(at), date = `${p.weekday} ${p.day} ${p.month} ${p.year}`;
        return step < DAY ? `${date}, ${p.hour}:${p.minute}` : date;
      },
    };
  }

  // Converts stats to columns for uPlot. Series without any known value are left out.
  function toColumns(stats, unit) {
    const starts = stats.series.map((item) => Date.parse(item.start) / 1000);
    const series = (SERIES[unit] || SERIES.views)
      .map(([name, label]) => ({ label, values: stats.series.map((item) => item[name] ?? null) }))
      .filter((each) => hasValue(each.values));
    const step = STEP[stats.interval] || DAY;
    const end = (starts.at(-1) || 0) + step;
    const notes = (stats.notes || [])
      .map((note) => ({ text: String(note.text), when: Date.parse(note.at) / 1000 }))
      .filter((note) => note.when >= starts[0] && note.when < end)
      .sort((a, b) => a.when - b.when)
      // A mark is drawn at the start of the note's interval.
      .map((note) => ({ ...note, at: starts.findLast((start) => start <= note.when) }));
    return {
      starts, series, step, notes,
      calendar: calendar(stats.time_zone),
      upTo: Date.parse(stats.as_of) / 1000,
      data: [starts, ...series.map((each) => each.values)],
    };
  }

  // Returns the sum of each series from one instant to another, null if nothing is known there.
  function sums(shown, from, to) {
    return shown.series.map((each) =>
      each.values.reduce((sum, value, i) => {
        const at = shown.starts[i];
        return value == null || at < from || at > to ? sum : (sum ?? 0) + value;
      }, null));
  }

  // Returns the text of a chart for screen readers.
  function describe(shown) {
    const { starts, series, calendar } = shown, last = starts.length - 1;
    const texts = series.map(({ label, values }) => {
      const highest = values.reduce((a, b) => Math.max(a, b), 0);
      if (!highest) return `${label}: none`;
      return `${label}: ${number(values.reduce((a, b) => a + b, 0))} in total, ` +
        `at most ${number(highest)} on ${calendar.exact(starts[values.indexOf(highest)], shown.step)}`;
    });
    return `Chart of ${series.map((each) => each.label.toLowerCase()).join(" and ")}, ` +
      `${calendar.date(starts[0])} to ${calendar.date(starts[last])}, ${calendar.zone}. ${texts.join(". ")}.`;
  }

  // Points without a known neighbour make no line, so they are drawn as dots.
  function isolatedPoints(u, index, show, gaps) {
    const values = u.data[index];
    const indexes = [];
    values.forEach((value, i) => {
      if (value != null && values[i - 1] == null && values[i + 1] == null) indexes.push(i);
    });
    return indexes;
  }

  // Returns the top of the vertical axis: a round number not below the highest value.
  function axisTop(highest) {
    if (!(highest > 4)) return 4;
    const unit = 10 ** Math.floor(Math.log10(highest));
    return [1, 1.2, 1.6, 2, 2.5, 3, 4, 5, 6, 8, 10].map((each) => each * unit).find((each) => each >= highest);
  }

  class Chart {
    constructor(figure) {
      this.figure = figure;
      this.unit = figure.dataset.unit;
      this.readout = element("p", "readout");
      this.plot = element("div", "plot");
      const caption = figure.querySelector("figcaption");
      if (caption) caption.after(this.readout, this.plot);
      else figure.prepend(this.readout, this.plot);
      this.message = element("p", "words", this.plot);
      this.message.setAttribute("role", "status");
      this.load();
    }

    colour(name) {
      return getComputedStyle(this.figure).getPropertyValue(name).trim();
    }

    async load() {
      try {
        const answer = await fetch(this.figure.dataset.chart, { headers: { Accept: "application/json" } });
        if (!answer.ok) throw new Error(answer.status);
        this.show(toColumns(await answer.json(), this.unit));
      } catch (error) {
        if (!this.u) this.showMessage(FAILED); // else the old chart stays; the page shows how old it is
      }
    }

    showMessage(text) {
      this.message.textContent = text;
    }

    show(shown) {
      const labels = (each) => each.series.map(({ label }) => label).join();
      const canUpdate = this.u && labels(shown) === labels(this.shown) && shown.step === this.shown.step &&
        shown.calendar.zone === this.shown.calendar.zone;
      this.shown = shown;
      if (!shown.series.length) {
        this.clear();
        this.showMessage(shown.starts.length ? "No longer stored for this range." : "There is no data in this range.");
        return;
      }
      const isEmpty = shown.series.every(({ values }) => !values.some(Boolean));
      this.showMessage(isEmpty ? `No ${this.unit} in this range.` : "");
      if (canUpdate) this.u.setData(shown.data, !this.zoomed);
      else this.draw();
      this.u.root.querySelector("canvas").setAttribute("aria-label", describe(shown));
      // Reserves the width of the widest value.
      sums(shown, -Infinity, Infinity).forEach((sum, i) => {
        this.values[i].style.minWidth = `${Math.max(5, number(sum).length)}ch`;
      });
      this.showValues();
    }

    clear() {
      if (this.u) this.u.destroy();
      this.u = null;
      this.drawnMarks = "";
      this.zoomed = false;
      this.readout.replaceChildren();
    }

    draw() {
      this.clear();
      this.drawLegend();
      this.noteLayer = element("div", "marks");
      this.u = new uPlot(this.options(), this.shown.data, this.plot);
      this.u.over.append(this.noteLayer);
      const canvas = this.u.root.querySelector("canvas");
      canvas.setAttribute("role", "img");
      this.drawNotes(this.u);
    }

    drawLegend() {
      this.values = this.shown.series.map(({ label }, i) =>
        element("b", "", element("span", i ? "series" : "series filled", this.readout, `${label} `)));
      this.wholeRange = element("button", "", this.readout, "Whole range");
      this.wholeRange.type = "button";
      this.wholeRange.hidden = true;
      this.wholeRange.addEventListener("click", safe(() => this.zoom(this.shown.starts[0], this.shown.starts.at(-1))));
      this.when = element("span", "when", this.readout);
      this.readout.insertBefore(this.when, this.wholeRange);
    }

    options() {
      const font = `12px ${getComputedStyle(this.figure).fontFamily}`;
      const { step } = this.shown;
      const stroke = () => this.colour("--chart-text");
      const grid = { stroke: () => this.colour("--chart-grid"), width: 1 };
      const line = { points: { show: true, filter: isolatedPoints, size: 5, width: 0 }, spanGaps: false };
      return {
        ...this.size(),
        padding: [10, 24, 0, 0],
        legend: { show: false },
        tzDate: (at) => uPlot.tzDate(new Date(at * 1000), this.shown.calendar.zone),
        scales: {
          x: { range: (u, from, to) => (u.data[0].length > 1 ? [from, to] : [from - step, from + step]) },
          y: { range: (u, lowest, highest) => [0, axisTop(highest)] },
        },
        series: [{}, ...this.shown.series.map(({ label }, i) => {
          const colour = () => this.colour(i ? "--chart-2" : "--chart-1");
          const fill = i ? undefined : () => this.colour("--chart-fill");
          return { label, ...line, stroke: colour, fill, width: i ? 2 : 1.5, points: { ...line.points, fill: colour } };
        })],
        axes: [
          {
            stroke, font, space: 72, size: 28, gap: 6, grid: { show: false },
            ticks: { ...grid, size: 4 }, incrs: STEPS.filter((each) => each >= step),
            values: safe((u, at, axis, space, incr) => this.axisLabels(at, incr)),
          },
          {
            stroke, font, space: 44, size: 46, gap: 6, grid, ticks: { show: false },
            incrs: [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000].flatMap((each) => [each, each * 1e3, each * 1e6])
              .sort((a, b) => a - b),
            values: (u, values) => values.map((value) => (value < 10000 ? fullNumber : shortNumber).format(value)),
          },
        ],
        cursor: {
          y: false,
          move: (u, left, top) => [left < 0 ? left : u.valToPos(u.data[0][u.posToIdx(left)], "x"), top],
          points: { size: 7, width: 2, fill: (u, i) => this.colour(i > 1 ? "--chart-2" : "--chart-1") },
          drag: { x: true, y: false, setScale: false, dist: 5 },
        },
        hooks: {
          setCursor: [safe(() => this.showValues())],
          setSelect: [safe((u) => this.onSelect(u))],
          setScale: [safe((u, scale) => scale === "x" && this.onScale(u))],
          draw: [safe((u) => this.drawNotes(u))],
        },
      };
    }

    size() {
      return { width: Math.max(this.plot.clientWidth, 120), height: Math.max(this.plot.clientHeight, 80) };
    }

    axisLabels(instants, step) {
      const { calendar } = this.shown;
      return instants.map((at) => {
        if (step >= YEAR) return calendar.year(at);
        if (step >= MONTH) return calendar.month(at);
        if (step >= DAY || calendar.time(at) === "00:00") return calendar.day(at);
        return calendar.time(at);
      });
    }

    onSelect(u) {
      if (u.select.width < 5) return;
      const from = u.posToVal(u.select.left, "x"), to = u.posToVal(u.select.left + u.select.width, "x");
      u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      this.zoom(from, to);
    }

    // Zooms to whole intervals, at least three.
    zoom(from, to) {
      const { starts } = this.shown, last = starts.length - 1;
      let first = starts.findIndex((at) => at >= from), end = starts.findLastIndex((at) => at <= to);
      if (first < 0) first = last;
      while (end - first < 2 && (first > 0 || end < last)) {
        if (first > 0) first -= 1;
        if (end < last) end += 1;
      }
      this.u.setScale("x", { min: starts[first], max: starts[end] });
    }

    onScale(u) {
      const { starts } = this.shown, { min, max } = u.scales.x;
      this.zoomed = min > starts[0] || max < starts.at(-1);
      if (this.zoomed === !this.wholeRange.hidden) return this.showValues();
      if (!this.zoomed && document.activeElement === this.wholeRange) this.figure.querySelector("summary")?.focus();
      this.wholeRange.hidden = !this.zoomed;
      this.showValues();
    }

    // Shows the values below the cursor, or without a cursor the sums of the visible range.
    showValues() {
      const { starts, series, calendar, step, upTo } = this.shown, u = this.u;
      if (!u) return;
      const i = u.cursor.idx;
      const inside = i != null && u.cursor.left >= 0 && starts[i] != null;
      const { min, max } = u.scales.x;
      const values = inside ? series.map(({ values }) => values[i]) : sums(this.shown, min, max);
      this.values.forEach((value, at) => { value.textContent = number(values[at]); });
      if (inside) {
        const suffix = starts[i] + step > upTo ? ", so far" : "";
        this.when.textContent = calendar.exact(starts[i], step) + suffix;
      } else if (!this.zoomed) {
        this.when.textContent = ""; // the caption shows the range
      } else {
        const visible = starts.filter((at) => at >= min && at <= max);
        const days = [visible[0], visible.at(-1)].map((at) => calendar.date(at ?? min));
        this.when.textContent = days[0] === days[1] ? days[0] : `${days[0]} to ${days[1]}`;
      }
    }

    // Draws a mark for each note. Notes too close to each other share a mark.
    drawNotes(u) {
      if (!this.noteLayer) return;
      const width = u.over.clientWidth, marks = [];
      for (const note of this.shown.notes) {
        const left = u.valToPos(note.at, "x");
        if (left < -1 || left > width + 1) continue;
        if (marks.length && left - marks.at(-1).left < 12) marks.at(-1).notes.push(note);
        else marks.push({ left, notes: [note] });
      }
      const key = JSON.stringify([width, marks]);
      if (key === this.drawnMarks) return;
      this.drawnMarks = key;
      this.noteLayer.replaceChildren(...marks.map(({ left, notes }) => {
        const mark = element("div", left > width / 2 ? "note late" : "note");
        mark.style.left = `${Math.round(left)}px`;
        const button = element("button", "", mark);
        button.type = "button";
        const text = element("span", "said", mark);
        text.setAttribute("aria-hidden", "true");
        const dates = notes.map((note) => this.shown.calendar.date(note.when));
        notes.slice(0, MAX_NOTES).forEach((note, i) => {
          element("bdi", "", element("span", "", text, `${dates[i]}: `), note.text);
        });
        if (notes.length > MAX_NOTES) element("span", "", text, `and ${notes.length - MAX_NOTES} more`);
        button.setAttribute("aria-label", notes.map((note, i) => `Note of ${dates[i]}: ${note.text}`).join("; "));
        return mark;
      }));
    }
  }

  // Returns a function that calls `run` and ignores its errors: a failed chart must not break the page.
  function safe(run) {
    return (...args) => {
      try {
        return run(...args);
      } catch (error) {
        return undefined;
      }
    };
  }

  const begin = safe((figure) => {
    const chart = new Chart(figure);
    figure.addEventListener("reload", safe(() => chart.load()));
    const redraw = safe(() => chart.u && chart.u.redraw(false));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    new ResizeObserver(safe(() => {
      const { width, height } = chart.size();
      if (chart.u && (chart.u.width !== width || chart.u.height !== height)) chart.u.setSize({ width, height });
    })).observe(chart.plot);
  });

  document.querySelectorAll("figure.chart[data-chart]").forEach(begin);
})();
