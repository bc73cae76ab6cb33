// What a form changes, it changes once: pressing again while the answer is on its way sends nothing more.
(function () {
  "use strict";

  const WAIT = 5000; // ms; after that the answer is given up
  let sent = new WeakMap();
  addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (event.timeStamp - sent.get(form) < WAIT) event.preventDefault();
    else sent.set(form, event.timeStamp);
  });
  addEventListener("pageshow", () => { sent = new WeakMap(); }); // who came back may send anew
})();
