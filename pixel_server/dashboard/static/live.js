// Keeps the figures of <main data-live="URL of events" data-figures="URL of the same as JSON"> as they are.
// Where no events come, it asks every 2 s. A tab that is hidden holds no connection and asks nothing.
(function () {
  "use strict";

  const POLL = 2000, CHARTS = 10000, SPOKEN = 30000; // ms
  const PATIENCE = 5000; // until the first event, which the server sends at once
  const SILENCE = 25000; // after that: it sends one every 15 s at the latest
  const RETRY = 30000; // until events are tried again, where they did not work
  const SAYS = {
    live: "Live.",
    away: "Redis does not answer: these figures are as they were.",
    lost: "The server does not answer: these figures are as they were.",
    revoked: "You are signed out: load the page anew.",
    deleted: "This campaign was deleted.",
  };

  const main = document.querySelector("main[data-live]");
  if (!main) return;
  const address = main.dataset.figures || main.dataset.live.replace(/live(?=$|\?)/, "figures.json");
  const line = main.querySelector(".fresh");
  const shown = document.createElement("span");
  const spoken = document.createElement("p");
  let source = null, heard = 0, opened = 0, over = false, asking = false, chartsAt = -CHARTS, chartsDue = 0, spokeAt = 0;

  const now = () => performance.now();

  function safe(run) {
    return async (given) => {
      try {
        return await run(given);
      } catch (error) {
        return undefined;
      }
    };
  }

  function state(name) {
    if (main.dataset.state === name) return;
    const before = main.dataset.state;
    main.dataset.state = name;
    shown.textContent = ` ${SAYS[name]}`;
    if (before || name !== "live") speak(SAYS[name]);
  }

  function speak(text) {
    spokeAt = now();
    spoken.textContent = text;
  }

  function take({ figures, as_of: asOf }) {
    let moved = false;
    for (const each of main.querySelectorAll("[data-figure]")) {
      const path = each.dataset.figure, text = figures[path];
      if (text == null || text === each.textContent) continue;
      each.textContent = text;
      if (path !== "as_of") moved = true;
    }
    for (const time of main.querySelectorAll('time[data-figure="as_of"]')) time.dateTime = asOf;
    state("live");
    if (!moved) return;
    if (now() - spokeAt >= SPOKEN) speak(`Figures have changed. ${line ? line.textContent.trim() : ""}`);
    charts();
  }

  // At once, but not more often than every 10 s.
  function charts() {
    if (chartsDue) return;
    chartsDue = setTimeout(() => {
      chartsDue = 0;
      chartsAt = now();
      document.querySelectorAll("figure.chart").forEach((each) => each.dispatchEvent(new Event("reload")));
      redraw();
    }, Math.max(0, chartsAt + CHARTS - now()));
  }

  // What is more than a text (bars, lists) is taken from the page as it is now; but not from under a reader's hand.
  const redraw = safe(async () => {
    if (!main.querySelector("[data-redraw]")) return;
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
    if (!answer.ok || over) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const old of main.querySelectorAll("[data-redraw]")) {
      const made = page.querySelector(`[data-redraw="${old.dataset.redraw}"]`);
      const held = old.matches(":hover, :focus-within");
      if (made && !held && made.outerHTML !== old.outerHTML) old.replaceWith(document.adoptNode(made));
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
    on("figures", take);
    on("away", () => state("away"));
    on("end", ({ why }) => (why === "again" ? listen() : end(why)));
  }

  async function ask() {
    if (asking) return;
    asking = true;
    try {
      const answer = await fetch(address, { headers: { Accept: "application/json" }, redirect: "manual" });
      if (over || document.hidden) return;
      if (answer.ok) take(await answer.json());
      else if (answer.status === 404) end("deleted");
      else if (answer.status === 401 || answer.status === 403 || answer.type === "opaqueredirect") end("revoked");
      else state("away");
    } catch (error) {
      if (!over) state("lost");
    } finally {
      asking = false;
    }
  }

  const tick = safe(() => {
    if (over || document.hidden) return;
    const works = source && source.readyState !== 2 &&
      (heard ? now() - heard < SILENCE && source.readyState === 1 : now() - opened < PATIENCE);
    if (works) return;
    if (now() - opened >= RETRY) listen();
    return ask();
  });

  const turn = safe(() => {
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
    document.addEventListener("visibilitychange", turn);
    addEventListener("online", turn); // after a sleep: what was open is dead, and does not say so
    addEventListener("pagehide", safe(close));
    addEventListener("pageshow", safe((event) => event.persisted && turn()));
    setInterval(tick, POLL);
    turn();
  })();
})();
