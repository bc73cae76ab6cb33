// Updates the figures of <main data-live="URL of events" data-figures="URL of the figures as JSON">.
// If the page becomes another page (another data-page), such as after the first counted request, it loads that page.
// If no events arrive, it polls every 2 s. A hidden tab has no connection and polls every minute, to count in
// its title how much data-counted (the path of a figure) has grown since somebody looked: "(3) Spring catalogue".
(function () {
  "use strict";

  const POLL_MS = 2000, HIDDEN_POLL_MS = 60000;
  const CHART_INTERVAL_MS = 10000, CHECKLIST_INTERVAL_MS = 1000, ANNOUNCE_INTERVAL_MS = 30000;
  const FIRST_EVENT_TIMEOUT_MS = 5000; // the server sends the first event at once
  const EVENT_TIMEOUT_MS = 25000; // the server sends an event at least every 15 s
  const RETRY_MS = 30000; // until the next attempt to receive events, after a failed attempt
  const STATES = {
    live: "Updates by itself.",
    away: "Redis does not answer. These figures are not up to date.",
    lost: "The server does not answer. These figures are not up to date.",
    revoked: "You are signed out. Load this page again.",
    deleted: "This campaign was deleted.",
    ready: "The first request was counted. Save what you typed, or load this page again.",
  };

  const main = document.querySelector("main[data-live]");
  if (!main) return;
  const figuresUrl = main.dataset.figures || main.dataset.live.replace(/live(?=$|\?)/, "figures.json");
  const freshLine = main.querySelector(".fresh");
  const stateText = document.createElement("span");
  const announcement = document.createElement("p");
  let source = null, lastEventAt = 0, openedAt = 0, hasEnded = false, isPolling = false, chartsReloadedAt = -CHART_INTERVAL_MS, reloadTimer = 0, announcedAt = 0;

  const title = document.title;
  let seenCount = null, lastCount = null, polledAt = 0;

  const now = () => performance.now();

  // Returns a function that calls `run` and ignores its errors: a failed update must not break the page.
  function safe(run) {
    return async (arg) => {
      try {
        return await run(arg);
      } catch (error) {
        return undefined;
      }
    };
  }

  function setState(name) {
    if (main.dataset.state === name) return;
    const before = main.dataset.state;
    main.dataset.state = name;
    stateText.textContent = ` ${STATES[name]}`;
    if (before || name !== "live") announce(STATES[name]);
  }

  function announce(text) {
    announcedAt = now();
    announcement.textContent = text;
  }

  function countInTitle(text) {
    const count = Number((text ?? "").replaceAll(",", "") || NaN);
    if (Number.isNaN(count)) return;
    lastCount = count;
    if (seenCount == null || !document.hidden) seenCount = count;
    const added = count - seenCount;
    document.title = added > 0 ? `(${added.toLocaleString("en-US")}) ${title}` : title;
  }

  function update({ figures, as_of: asOf }) {
    countInTitle(figures[main.dataset.counted]);
    if (document.hidden) return;
    let changed = false;
    for (const node of main.querySelectorAll("[data-figure]")) {
      const path = node.dataset.figure, text = figures[path];
      if (text == null || text === node.textContent) continue;
      node.textContent = text;
      if (path !== "as_of") changed = true;
    }
    for (const time of main.querySelectorAll('time[data-figure="as_of"]')) time.dateTime = asOf;
    setState("live");
    if (!changed) return;
    if (now() - announcedAt >= ANNOUNCE_INTERVAL_MS) announce(`Figures have changed. ${freshLine ? freshLine.textContent.trim() : ""}`);
    reloadCharts();
  }

  // Reloads the charts at once, but not more often than every 10 s. A checklist is light: every second.
  function reloadCharts() {
    if (reloadTimer) return;
    reloadTimer = setTimeout(() => {
      reloadTimer = 0;
      chartsReloadedAt = now();
      document.querySelectorAll("figure.chart").forEach((chart) => chart.dispatchEvent(new Event("reload")));
      redrawSections();
    }, Math.max(0, chartsReloadedAt + (main.dataset.page ? CHECKLIST_INTERVAL_MS : CHART_INTERVAL_MS) - now()));
  }

  // Replaces bars and lists with those of a newly loaded page, except under the pointer or the focus. The event
  // `redrawn` tells curves.js to draw the new curves.
  const redrawSections = safe(async () => {
    if (!main.querySelector("[data-redraw]")) return;
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
    if (!answer.ok || hasEnded) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (page.querySelector("main").dataset.page !== main.dataset.page) {
      if (hasUnsavedText()) end("ready");
      else location.replace(`${location.pathname}?done=counted`);
      return;
    }
    for (const old of main.querySelectorAll("[data-redraw]")) {
      const fresh = page.querySelector(`[data-redraw="${old.dataset.redraw}"]`);
      const isInUse = old.matches(":hover, :focus-within");
      if (fresh && !isInUse && fresh.outerHTML !== old.outerHTML) old.replaceWith(document.adoptNode(fresh));
    }
    document.dispatchEvent(new Event("redrawn"));
  });

  function hasUnsavedText() {
    return Array.from(main.querySelectorAll("input")).some((input) => input.value !== input.defaultValue);
  }

  function end(why) {
    hasEnded = true;
    close();
    setState(why);
  }

  function close() {
    if (source) source.close();
    source = null;
  }

  function listen() {
    close();
    openedAt = now();
    lastEventAt = 0;
    if (!window.EventSource) return;
    const thisSource = source = new EventSource(main.dataset.live);
    const on = (name, run) => thisSource.addEventListener(name, safe((event) => {
      if (thisSource !== source) return;
      lastEventAt = now();
      run(JSON.parse(event.data));
    }));
    on("figures", update);
    on("away", () => setState("away"));
    on("end", ({ why }) => (why === "again" ? listen() : end(why)));
  }

  async function poll() {
    if (isPolling) return;
    isPolling = true;
    polledAt = now();
    try {
      const answer = await fetch(figuresUrl, { headers: { Accept: "application/json" }, redirect: "manual" });
      if (hasEnded) return;
      if (answer.ok) update(await answer.json());
      else if (answer.status === 404) end("deleted");
      else if (answer.status === 401 || answer.status === 403 || answer.type === "opaqueredirect") end("revoked");
      else setState("away");
    } catch (error) {
      if (!hasEnded) setState("lost");
    } finally {
      isPolling = false;
    }
  }

  const tick = safe(() => {
    if (hasEnded) return;
    if (document.hidden) return now() - polledAt >= HIDDEN_POLL_MS ? poll() : undefined;
    const isConnected = source && source.readyState !== 2 &&
      (lastEventAt ? now() - lastEventAt < EVENT_TIMEOUT_MS && source.readyState === 1 : now() - openedAt < FIRST_EVENT_TIMEOUT_MS);
    if (isConnected) return;
    if (now() - openedAt >= RETRY_MS) listen();
    return poll();
  });

  const reconnect = safe(() => {
    if (hasEnded) return;
    if (document.hidden) {
      polledAt = now();
      close();
      return;
    }
    seenCount = lastCount;
    document.title = title;
    listen();
  });

  safe(() => {
    announcement.className = "hidden";
    announcement.setAttribute("role", "status");
    main.append(announcement);
    stateText.className = "state";
    if (freshLine) freshLine.append(stateText);
    document.addEventListener("visibilitychange", reconnect);
    addEventListener("online", reconnect); // after a sleep, the old connection is dead without an error
    addEventListener("pagehide", safe(close));
    addEventListener("pageshow", safe((event) => event.persisted && reconnect()));
    setInterval(tick, POLL_MS);
    reconnect();
  })();
})();
