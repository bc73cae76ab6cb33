// Lets the keyboard and a finger move the cursor of a uPlot chart, and screen readers hear the values at the cursor.
//
//   steerChart(u, { label, stops, open })
//
// label: name of the area that takes the keys. stops: function that returns the places of the cursor from left to
// right: [{left: px, text: "26 Nov 2026, Opens 12"}, ...]. open: function that Enter calls with a stop, if any.
(function () {
  "use strict";

  const MOVES = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
  const OUTSIDE = -10; // px; uPlot has no cursor left of the chart

  window.steerChart = function (u, { label, stops, open }) {
    const { over } = u, live = document.createElement("p");
    let at = null; // index of the stop at the cursor, null if keys and finger have not chosen a stop

    over.tabIndex = 0;
    over.setAttribute("role", "application"); // so that screen readers pass the arrow keys on
    over.setAttribute("aria-label", label);
    live.className = "hidden";
    live.setAttribute("aria-live", "polite");
    u.root.append(live);

    function show(places, i) {
      at = Math.max(0, Math.min(places.length - 1, i));
      u.setCursor({ left: places[at].left, top: over.clientHeight / 2 });
      live.textContent = places[at].text;
    }

    function hide() {
      if (at === null) return;
      at = null;
      u.setCursor({ left: OUTSIDE, top: OUTSIDE });
      live.textContent = "";
    }

    // Shows the newest stop when the Tab key brings the focus here.
    over.addEventListener("focus", () => {
      const places = stops();
      if (over.matches(":focus-visible") && places.length) show(places, places.length - 1);
    });

    over.addEventListener("keydown", (event) => {
      const places = stops();
      if (event.target !== over || event.ctrlKey || event.altKey || event.metaKey || !places.length) return;
      if (event.key in MOVES) show(places, (at ?? places.length) + MOVES[event.key]);
      else if (event.key === "Escape") hide();
      else if (event.key === "Enter" && open && at !== null) open(places[Math.min(at, places.length - 1)]);
      else return;
      event.preventDefault();
    });

    over.addEventListener("blur", hide);

    function follow(event) {
      const places = stops();
      if (event.pointerType !== "touch" || !places.length) return;
      const left = event.clientX - over.getBoundingClientRect().left;
      const distance = (i) => Math.abs(places[i].left - left);
      show(places, places.reduce((nearest, place, i) => (distance(i) < distance(nearest) ? i : nearest), 0));
    }

    over.addEventListener("pointerdown", follow);
    over.addEventListener("pointermove", follow);
  };
})();
