// Draws each <figure class="chart" data-chart="URL of stats as JSON" data-unit="name of what is drawn"
// data-series="[[name in the stats, label, whether its values can be added up (true if missing)], ...]"> with uPlot.
// The visitors of several days cannot: somebody may come on two days. An element .days in the caption names the days that it shows.
// data-steps: draws whole days as steps too. A line between the few days of a mailing would be a triangle.
// data-begins, in seconds, is the time of sending or of the first request: zeros before it are not drawn.
// The event `reload` on a figure loads its data again. Errors are shown as a message, and never break the page.
(function () {
  "use strict";

  const STEP = { "15m": 900, hour: 3600, day: 86400 };
  const HOUR_THEN_DAY = "hour_then_day"; // an interval of an hour for 48 hours, then of a day; drawn per hour
  const HOUR = 3600, DAY = 86400, MONTH = 30 * DAY, YEAR = 365 * DAY;
  // uPlot recognizes months and years by exactly these numbers.
  const STEPS = [
    900, 1800, 3600, 7200, 10800, 21600, 43200, DAY, 2 * DAY, 3 * DAY, 5 * DAY, 7 * DAY, 10 * DAY, 15 * DAY,
    MONTH, 2 * MONTH, 3 * MONTH, 6 * MONTH, YEAR, 2 * YEAR, 5 * YEAR, 10 * YEAR,
  ];
  const MAX_NOTES = 4; // notes shown at one mark
  const MOST = 0.8; // share of the opens that the chart of all time since sending shows at first
  const POINT_GAP = 12; // px between the cursor and the values beside it
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
      days(first, last) {
        const [from, to] = [first, last].map((at) => this.date(at));
        return from === to ? to : `${this.year(first) === this.year(last) ? this.day(first) : from} to ${to}`;
      },
      month(at) { const p = parts(at); return `${p.month} ${p.year}`; },
      year(at) { return parts(at).year; },
      time(at) { const p = parts(at); return `${p.hour}:${p.minute}`; },
      exact(at, step) {
        const p = parts(at), date = `${p.weekday} ${p.day} ${p.month} ${p.year}`;
        return step < DAY ? `${date}, ${p.hour}:${p.minute}` : date;
      },
      // The values of a field for a day and of a field for a time: ["2026-11-20", "08:30"].
      fields(at) {
        const iso = new Intl.DateTimeFormat("sv-SE", {
          year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", timeZone: zone,
        });
        return iso.format(at * 1000).split(" ");
      },
      span(from, to) {
        const days = [from, to].map((at) => this.exact(at, DAY));
        return `${this.exact(from, 0)} to ${days[0] === days[1] ? this.time(to) : this.exact(to, 0)}`;
      },
    };
  }

  // Converts stats to columns for uPlot. Series without any known value are left out. Intervals after now have
  // no value, nor have intervals without requests before `begins`. Intervals shorter than a day are drawn as
  // steps, because a line would rise before the first request; longer ones if `hasSteps`, and a single one. The data of each series is drawn in two parts: the intervals that are over, then the running one.
  function toColumns(stats, labels, begins, hasSteps) {
    const starts = stats.series.map((item) => Date.parse(item.start) / 1000);
    const isPerHour = stats.interval === HOUR_THEN_DAY;
    const step = isPerHour ? HOUR : STEP[stats.interval] || DAY, isStepped = hasSteps || step < DAY || starts.length === 1;
    const lastStep = isPerHour && starts.at(-1) - starts[0] >= 2 * DAY ? DAY : step;
    const ends = starts.map((start, i) => starts[i + 1] ?? start + lastStep);
    const upTo = Date.parse(stats.as_of) / 1000 || Infinity;
    const series = labels
      .map(([name, label, hasSum = true]) => ({
        label,
        hasSum,
        values: stats.series.map((item, i) =>
          (starts[i] > upTo || (ends[i] <= begins && !item[name]) ? null : item[name] ?? null)),
      }))
      .filter((each) => hasValue(each.values));
    const running = starts.findLastIndex((start, i) => start <= upTo && ends[i] > upTo);
    const isRunningDrawn = series.some(({ values }) => values[running] != null);
    const drawn = series.map(({ values }) =>
      values.map((value, i) => (isPerHour && value != null ? value * HOUR / (ends[i] - starts[i]) : value)));
    const over = drawn.map((values) => values.map((value, i) => (i === running ? null : value)));
    // A line to the running interval begins at the one before. A step has no such line.
    const isRunning = (i) => i === running || (!isStepped && running > 0 && i === running - 1);
    const now = drawn.map((values) => values.map((value, i) => (isRunning(i) ? value : null)));
    const end = ends.at(-1) || 0;
    const notes = (stats.notes || [])
      .map((note) => ({ id: String(note.id), text: String(note.text), when: Date.parse(note.at) / 1000 }))
      .filter((note) => note.when >= starts[0] && note.when < end)
      .sort((a, b) => a.when - b.when)
      .map((note) => ({ ...note, interval: starts.findLastIndex((start) => start <= note.when) }));
    return {
      starts, ends, series, step, notes, isPerHour, isStepped, upTo, begins, running: isRunningDrawn ? running : -1,
      cut: isStepped ? starts.findIndex((start, i) => start < begins && ends[i] > begins) : -1, // see `steps`
      isAllSinceSending: isPerHour && stats.from == null,
      lastX: isStepped ? end : starts.at(-1), // the right end of the axis
      calendar: calendar(stats.time_zone),
      data: [starts, ...over, ...now],
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
    const texts = series.map(({ label, hasSum, values }) => {
      const highest = values.reduce((a, b) => Math.max(a, b), 0);
      if (!highest) return `${label}: none`;
      const total = hasSum ? `${number(values.reduce((a, b) => a + b, 0))} in total, ` : "";
      return `${label}: ${total}` +
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

  // Draws each interval as a level line over its whole width, from sending and up to now.
  function steps({ starts, ends, upTo, begins }) {
    return (u, index, first, last) => {
      const stroke = new Path2D(), fill = new Path2D(), values = u.data[index];
      const x = (at) => u.valToPos(at, "x", true), y = (value) => u.valToPos(value, "y", true);
      for (let i = first; i <= last; i += 1) {
        if (values[i] == null) continue;
        const isFirst = starts[i] < begins && ends[i] > begins;
        const left = x(isFirst ? begins : starts[i]), right = x(Math.min(ends[i], upTo)), top = y(values[i]);
        if (values[i - 1] == null) stroke.moveTo(left, top);
        else stroke.lineTo(left, top);
        stroke.lineTo(right, top);
        fill.rect(left, top, right - left, y(0) - top);
      }
      return { stroke, fill };
    };
  }

  // Returns the labels of the vertical axis: up to six whole numbers, the last not below the highest value.
  function axisLevels(highest) {
    const unit = 10 ** Math.floor(Math.log10(Math.max(highest, 4)));
    const tops = [[1, 5], [1.2, 4], [1.6, 4], [2, 4], [2.5, 5], [3, 3], [4, 4], [5, 5], [6, 3], [8, 4], [10, 5]];
    const [top, count] = tops.find(([each]) => each * unit >= Math.max(highest, 4));
    return Array.from({ length: count + 1 }, (_, i) => Math.round(i * top * unit / count));
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
      this.panel = element("div", "panel", figure);
      this.panel.popover = "auto"; // Escape and a click elsewhere close it
      this.panel.hidden = !this.panel.showPopover; // an old browser has only the list below the chart
      this.panel.setAttribute("role", "dialog");
      this.panel.setAttribute("aria-label", "Notes");
      this.load();
    }

    colour(name) {
      return getComputedStyle(this.figure).getPropertyValue(name).trim();
    }

    async load() {
      try {
        const answer = await fetch(this.figure.dataset.chart, { headers: { Accept: "application/json" } });
        if (!answer.ok) throw new Error(answer.status);
        this.show(toColumns(await answer.json(), JSON.parse(this.figure.dataset.series),
          Number(this.figure.dataset.begins || -Infinity), this.figure.dataset.steps != null));
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
        shown.isPerHour === this.shown.isPerHour && shown.calendar.zone === this.shown.calendar.zone;
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

    // Explains in the legend a line that is dashed, and a first bar that is narrower than the others, if it is in
    // the visible range.
    showMarks() {
      const { calendar, cut, begins, starts, ends, running, isStepped } = this.shown, { min, max } = this.u.scales.x;
      const isVisible = (i) => i >= 0 && ends[i] > min && (isStepped ? starts[i] < max : starts[i] <= max);
      this.dashed.hidden = !isVisible(running);
      this.narrow.hidden = !isVisible(cut);
      this.narrow.textContent = this.narrow.hidden ? "" : `First bar: ${calendar.time(begins)} to ${calendar.time(ends[cut])} only`;
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
      this.point = element("div", "point");
      this.point.hidden = true;
      this.u.over.append(this.noteLayer, this.point);
      let pressedAt = 0;
      this.u.over.addEventListener("pointerdown", (event) => { pressedAt = event.clientX; });
      this.u.over.addEventListener("click", safe((event) => {
        const wasDragged = Math.abs(event.clientX - pressedAt) > 4, i = this.intervalAt(this.u);
        if (!wasDragged && i != null && !this.noteLayer.contains(event.target)) {
          this.openPanel(i, this.noteOf(i), event.clientX, event.clientY);
        }
      }));
      const canvas = this.u.root.querySelector("canvas");
      canvas.setAttribute("role", "img");
      steerChart(this.u, {
        label: `Values of the chart by ${this.shown.step < DAY ? "time" : "day"}: move with the arrow keys`,
        stops: () => this.stops(),
        open: safe((stop) => {
          const { left, top } = this.u.over.getBoundingClientRect();
          this.openPanel(stop.interval, this.noteOf(stop.interval), left + stop.left, top);
        }),
      });
      this.drawNotes(this.u);
      if (this.shown.isAllSinceSending) this.zoomToMost();
    }

    // Zooms to the first hours in which most opens came, because the rest of a mailing's line is flat.
    zoomToMost() {
      const { starts, ends, series, lastX } = this.shown, { values } = series[0];
      const total = values.reduce((sum, value) => sum + (value ?? 0), 0);
      let sum = 0;
      const last = values.findIndex((value) => (sum += value ?? 0) >= MOST * total);
      const end = Math.max(ends[last], starts[0] + DAY);
      if (total && end - starts[0] < (lastX - starts[0]) / 2) this.zoom(starts[0], end - 1);
    }

    drawLegend() {
      this.values = this.shown.series.map(({ label }, i) =>
        element("b", "", element("span", i ? "series" : "series filled", this.readout, `${label} `)));
      this.dashed = element("span", "series dashed", this.readout, "not over yet");
      this.narrow = element("span", "dim", this.readout);
      this.wholeRange = element("button", "", this.readout, "Whole range");
      this.wholeRange.type = "button";
      this.wholeRange.hidden = true;
      this.wholeRange.addEventListener("click", safe(() => this.zoom(this.shown.starts[0], this.shown.lastX)));
      this.days = this.figure.querySelector("figcaption .days");
      this.daysOfWhole ??= this.days?.textContent ?? "";
    }

    options() {
      const font = `12px ${getComputedStyle(this.figure).fontFamily}`;
      const { step, isStepped } = this.shown, count = this.shown.series.length;
      const paths = isStepped ? (...place) => steps(this.shown)(...place) : undefined;
      const parts = [false, true].flatMap((isRunning) => this.shown.series.map((_, i) => ({ i, isRunning })));
      const stroke = () => this.colour("--chart-text");
      const grid = { stroke: () => this.colour("--chart-grid"), width: 1 };
      const line = { points: { show: true, filter: isolatedPoints, size: 5, width: 0 }, spanGaps: false };
      return {
        ...this.size(),
        padding: [10, 24, 0, 0],
        legend: { show: false },
        tzDate: (at) => uPlot.tzDate(new Date(at * 1000), this.shown.calendar.zone),
        scales: {
          x: {
            range: (u, from, to) => {
              // With a single interval, uPlot proposes an end years later.
              const end = to >= this.shown.starts.at(-1) ? this.shown.lastX : to;
              return end > from ? [from, end] : [from - step / 2, from + step / 2];
            },
          },
          y: { range: (u, lowest, highest) => [0, axisLevels(highest).at(-1)] },
        },
        series: [{}, ...parts.map(({ i, isRunning }) => {
          const colour = () => this.colour(i ? "--chart-2" : "--chart-1");
          const fill = i || isRunning ? undefined : () => this.colour("--chart-fill");
          const dash = isRunning ? [4, 4] : undefined;
          const points = isStepped ? { show: false } : { ...line.points, fill: colour };
          return { ...line, paths, dash, stroke: colour, fill, width: i ? 2 : 1.5, points };
        })],
        axes: [
          {
            stroke, font, space: 72, size: 28, gap: 6, grid: { show: false },
            ticks: { ...grid, size: 4 }, incrs: STEPS.filter((each) => each >= step),
            values: safe((u, at, axis, space, incr) => this.axisLabels(at, incr)),
          },
          {
            stroke, font, space: 44, size: 46, gap: 6, grid, ticks: { show: false },
            splits: (u, axis, lowest, highest) => axisLevels(highest),
            values: (u, values) => values.map((value) => (value < 10000 ? fullNumber : shortNumber).format(value)),
          },
        ],
        cursor: {
          y: false,
          move: (u, left, top) =>
            [left < 0 || isStepped ? left : u.valToPos(u.data[0][u.posToIdx(left)], "x"), top],
          points: {
            show: !isStepped, size: 7, width: 2,
            fill: (u, i) => this.colour((i - 1) % count ? "--chart-2" : "--chart-1"),
          },
          // By default uPlot stops each click at which the cursor has moved to the nearest interval.
          drag: { x: true, y: false, setScale: false, dist: 5, click: () => {} },
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
      const { calendar, isStepped, lastX } = this.shown;
      return instants.map((at) => {
        if (isStepped && at >= lastX) return ""; // the end of the range is not a day of the range
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
      const { starts, ends, isStepped } = this.shown, last = starts.length - 1;
      let first = starts.findIndex((at) => at >= from), end = starts.findLastIndex((at) => at <= to);
      if (first < 0) first = last;
      while (end - first < 2 && (first > 0 || end < last)) {
        if (first > 0) first -= 1;
        if (end < last) end += 1;
      }
      this.u.setScale("x", { min: starts[first], max: isStepped ? ends[end] : starts[end] });
    }

    onScale(u) {
      const { starts, lastX } = this.shown, { min, max } = u.scales.x;
      this.zoomed = min > starts[0] || max < lastX;
      if (this.zoomed === !this.wholeRange.hidden) return this.showValues();
      if (!this.zoomed && document.activeElement === this.wholeRange) this.figure.querySelector("summary")?.focus();
      this.wholeRange.hidden = !this.zoomed;
      this.showValues();
    }

    // Shows the sums of the visible range in the legend, and the values at the cursor beside the cursor.
    showValues() {
      const { starts, calendar } = this.shown, u = this.u;
      if (!u) return;
      const { min, max } = u.scales.x;
      sums(this.shown, min, max).forEach((sum, i) => {
        this.values[i].textContent = this.shown.series[i].hasSum ? number(sum) : "";
      });
      const visible = starts.filter((at) => at >= min && at <= max);
      const first = visible[0] ?? min, last = visible.at(-1) ?? min;
      const text = this.firstDays(min, max) || calendar.days(first, last);
      if (this.days) this.days.textContent = this.zoomed ? text : this.daysOfWhole;
      this.showMarks();
      this.showPoint(u);
    }

    // Returns "the first 3 days" for a visible range that begins at sending, else "".
    firstDays(min, max) {
      const { starts, isAllSinceSending } = this.shown, days = (max - starts[0]) / DAY;
      return isAllSinceSending && min <= starts[0] && Number.isInteger(days) ? `the first ${days === 1 ? "24 hours" : `${days} days`}` : "";
    }

    // Returns the index of the interval at the cursor, or null.
    intervalAt(u) {
      const { starts, ends, isStepped } = this.shown;
      if (!(u.cursor.left >= 0)) return null;
      if (!isStepped) return starts[u.cursor.idx] == null ? null : u.cursor.idx;
      const at = u.posToVal(u.cursor.left, "x"), i = starts.findLastIndex((start) => start <= at);
      return ends[i] > at ? i : null;
    }

    // Returns the date and the values of an interval as lines of text.
    lines(i) {
      const { starts, ends, series, calendar, step, isPerHour, upTo, cut, begins } = this.shown;
      const start = i === cut ? begins : starts[i];
      const when = isPerHour || (i === cut && step < DAY) ? calendar.span(start, ends[i]) : calendar.exact(start, step);
      const suffix = starts[i] > upTo ? ", not yet" : ends[i] > upTo ? ", so far" : "";
      return [when + suffix, ...series.map(({ label, values }) => `${label} ${number(values[i])}`)];
    }

    // Returns the visible intervals up to now as places of the cursor, see steer.js.
    stops() {
      const { starts, ends, isStepped, upTo } = this.shown, { min, max } = this.u.scales.x;
      return starts.flatMap((start, i) => {
        if (start < min || start > upTo || (isStepped ? start >= max : start > max)) return [];
        const at = isStepped ? (start + ends[i]) / 2 : start;
        const notes = this.noteOf(i).slice(0, MAX_NOTES).map((note) => `Note: ${note.text}`);
        const text = [...this.lines(i), ...notes].join(", ");
        return { interval: i, left: this.u.valToPos(at, "x"), text };
      });
    }

    noteOf(i) {
      return this.shown.notes.filter((note) => note.interval === i);
    }

    // Returns the template of the form for a new note, or null if the user cannot add notes.
    newNote() {
      return document.getElementById("new-note");
    }

    // Shows an interval with its notes, which can be edited, and a form for a new note. x, y: where, in px.
    openPanel(i, notes, x, y) {
      const template = this.newNote(), { panel } = this;
      if (!panel.showPopover || !(template || notes.length)) return;
      const [when, ...values] = this.lines(i);
      panel.replaceChildren();
      element("b", "", panel, when);
      element("p", "", panel, values.join(", "));
      const list = notes.length ? element("ul", "notes", panel) : null;
      for (const note of notes) {
        const listed = document.getElementById(`note-${note.id}`); // missing if the note came after the page
        const item = listed ? listed.cloneNode(true) : element("li", "", null, note.text);
        item.removeAttribute("id");
        list.append(item);
      }
      if (template) {
        const adding = element("details", "", panel);
        adding.open = !notes.length;
        element("summary", "", adding, "Add a note");
        adding.append(template.content.cloneNode(true));
        const form = adding.querySelector("form"), at = Math.min(this.shown.starts[i], this.shown.upTo);
        [form.elements.at.value, form.elements.time.value] = calendar(template.dataset.zone).fields(at);
      }
      panel.showPopover();
      const left = Math.max(8, Math.min(x + POINT_GAP, innerWidth - panel.offsetWidth - 8));
      const top = Math.max(8, Math.min(y, innerHeight - panel.offsetHeight - 8));
      Object.assign(panel.style, { left: `${left}px`, top: `${top}px` });
      const first = notes.length ? panel.querySelector("summary") : panel.querySelector("input:not([type=hidden])");
      if (first) first.focus();
    }

    showPoint(u) {
      const i = this.intervalAt(u), { left } = u.cursor;
      this.point.hidden = i == null;
      if (i == null) return;
      const [when, ...values] = this.lines(i);
      this.point.replaceChildren();
      element("b", "", this.point, when);
      values.forEach((text) => element("span", "", this.point, text));
      const notes = this.noteOf(i);
      notes.slice(0, MAX_NOTES).forEach((note) => element("bdi", "", this.point, note.text));
      if (notes.length > MAX_NOTES) element("span", "", this.point, `and ${notes.length - MAX_NOTES} more notes`);
      if (this.newNote()) element("small", "", this.point, notes.length ? "Click to edit" : "Click to add a note");
      const highest = Math.max(0, ...u.data.slice(1).map((drawn) => drawn[i] ?? 0));
      const top = Math.min(u.valToPos(highest, "y"), u.over.clientHeight - this.point.offsetHeight);
      const isLate = left > u.over.clientWidth / 2;
      const x = isLate ? `calc(${Math.round(left) - POINT_GAP}px - 100%)` : `${Math.round(left) + POINT_GAP}px`;
      this.point.style.translate = `${x} ${Math.max(0, Math.round(top))}px`; // unlike left and top, moves no layout
    }

    // Draws a mark for each note. Notes too close to each other share a mark.
    drawNotes(u) {
      if (!this.noteLayer) return;
      const width = u.over.clientWidth, marks = [];
      for (const note of this.shown.notes) {
        const at = this.shown.isStepped ? note.when : this.shown.starts[note.interval];
        const left = u.valToPos(at, "x");
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
        button.addEventListener("click", safe(() => {
          const { right, bottom } = button.getBoundingClientRect();
          this.openPanel(notes[0].interval, notes, right, bottom);
        }));
        const text = element("span", "note-text", mark);
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
