// Updates the figures of <main data-live="URL of events" data-figures="URL of the figures as JSON">.
// If no events arrive, it polls every 2 s. A hidden tab has no connection and does not poll.
(function () {
  "use strict";

  const POLL_MS = 2000, CHART_INTERVAL_MS = 10000, SPEAK_INTERVAL_MS = 30000;
  const FIRST_EVENT_TIMEOUT_MS = 5000; // the server sends the first event at once
  const EVENT_TIMEOUT_MS = 25000; // the server sends an event at least every 15 s
  const RETRY_MS = 30000; // until the next attempt to receive events, after a failed attempt
  const STATES = {
    live: "Live.",
    away: "Redis does not answer. These figures are not up to date.",
    lost: "The server does not answer. These figures are not up to date.",
    revoked: "You are signed out. Load this page again.",
    deleted: "This campaign was deleted.",
  };

  const main = document.querySelector("main[data-live]");
  if (!main) return;
  const address = main.dataset.figures || main.dataset.live.replace(/live(?=$|\?)/, "figures.json");
  const line = main.querySelector(".fresh");
  const shown = document.createElement("span");
  const spoken = document.createElement("p");
  let source = null, heard = 0, opened = 0, over = false, polling = false, chartsAt = -CHART_INTERVAL_MS, chartsDue = 0, spokeAt = 0;

  const now = () => performance.now();

  function safe(run) {
    return async (arg) => {
      try {
        return await run(arg);
      } catch (error) {
        return undefined;
      }
    };
  }

  function state(name) {
    if (main.dataset.state === name) return;
    const before = main.dataset.state;
    main.dataset.state = name;
    shown.textContent = ` ${STATES[name]}`;
    if (before || name !== "live") speak(STATES[name]);
  }

  function speak(text) {
    spokeAt = now();
    spoken.textContent = text;
  }

  function update({ figures, as_of: asOf }) {
    let changed = false;
    for (const each of main.querySelectorAll("[data-figure]")) {
      const path = each.dataset.figure, text = figures[path];
      if (text == null || text === each.textContent) continue;
      each.textContent = text;
      if (path !== "as_of") changed = true;
    }
    for (const time of main.querySelectorAll('time[data-figure="as_of"]')) time.dateTime = asOf;
    state("live");
    if (!changed) return;
    if (now() - spokeAt >= SPEAK_INTERVAL_MS) speak(`Figures have changed. ${line ? line.textContent.trim() : ""}`);
    charts();
  }

  // Reloads the charts at once, but not more often than every 10 s.
  function charts() {
    if (chartsDue) return;
    chartsDue = setTimeout(() => {
      chartsDue = 0;
      chartsAt = now();
      document.querySelectorAll("figure.chart").forEach((each) => each.dispatchEvent(new Event("reload")));
      redraw();
    }, Math.max(0, chartsAt + CHART_INTERVAL_MS - now()));
  }

  // Replaces bars and lists with those of a newly loaded page, except under the pointer or the focus.
  const redraw = safe(async () => {
    if (!main.querySelector("[data-redraw]")) return;
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
    if (!answer.ok || over) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const old of main.querySelectorAll("[data-redraw]")) {
      const fresh = page.querySelector(`[data-redraw="${old.dataset.redraw}"]`);
      const isInUse = old.matches(":hover, :focus-within");
      if (fresh && !isInUse && fresh.outerHTML !== old.outerHTML) old.replaceWith(document.adoptNode(fresh));
    }
  });

  function end(why) {
    over = true;
    close();
    state(why);
  }

  function close() {
    if (source) source.close();
    source = null;
  }

  function listen() {
    close();
    opened = now();
    heard = 0;
    if (!window.EventSource) return;
    const mine = source = new EventSource(main.dataset.live);
    const on = (name, run) => mine.addEventListener(name, safe((event) => {
      if (mine !== source) return;
      heard = now();
      run(JSON.parse(event.data));
    }));
    on("figures", update);
    on("away", () => state("away"));
    on("end", ({ why }) => (why === "again" ? listen() : end(why)));
  }

  async function poll() {
    if (polling) return;
    polling = true;
    try {
      const answer = await fetch(address, { headers: { Accept: "application/json" }, redirect: "manual" });
      if (over || document.hidden) return;
      if (answer.ok) update(await answer.json());
      else if (answer.status === 404) end("deleted");
      else if (answer.status === 401 || answer.status === 403 || answer.type === "opaqueredirect") end("revoked");
      else state("away");
    } catch (error) {
      if (!over) state("lost");
    } finally {
      polling = false;
    }
  }

  const tick = safe(() => {
    if (over || document.hidden) return;
    const works = source && source.readyState !== 2 &&
      (heard ? now() - heard < EVENT_TIMEOUT_MS && source.readyState === 1 : now() - opened < FIRST_EVENT_TIMEOUT_MS);
    if (works) return;
    if (now() - opened >= RETRY_MS) listen();
    return poll();
  });

  const reconnect = safe(() => {
    if (over) return;
    if (document.hidden) close();
    else listen();
  });

  safe(() => {
    spoken.className = "hidden";
    spoken.setAttribute("role", "status");
    main.append(spoken);
    shown.className = "state";
    if (line) line.append(shown);
    document.addEventListener("visibilitychange", reconnect);
    addEventListener("online", reconnect); // after a sleep, the old connection is dead without an error
    addEventListener("pagehide", safe(close));
    addEventListener("pageshow", safe((event) => event.persisted && reconnect()));
    setInterval(tick, POLL_MS);
    reconnect();
  })();
})();
