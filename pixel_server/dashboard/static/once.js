// Prevents a second submit of a form while the answer to the first submit is still on its way.
(function () {
  "use strict";

  const WAIT_MS = 5000; // after this time a form can be sent again
  let sent = new WeakMap();
  addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (event.timeStamp - sent.get(form) < WAIT_MS) event.preventDefault();
    else sent.set(form, event.timeStamp);
  });
  addEventListener("pageshow", () => { sent = new WeakMap(); }); // after going back, forms can be sent again
})();
