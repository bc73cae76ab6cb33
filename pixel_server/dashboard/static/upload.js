// Shows the progress of an upload, and then its result. Without this script the form is sent as any other form.
(function () {
  "use strict";

  function show(request, form) {
    if (request.responseURL !== form.action) { // the session has ended: this is the sign-in page
      location.assign(request.responseURL);
      return;
    }
    const answer = new DOMParser().parseFromString(request.responseText, "text/html").querySelector("main");
    const main = document.querySelector("main");
    main.replaceChildren(...answer.childNodes);
    main.tabIndex = -1;
    main.focus();
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("form[data-upload]")) return;
    event.preventDefault();
    const button = form.querySelector("button");
    const line = form.querySelector(".sending");
    const bar = line.querySelector("progress");
    const text = line.querySelector("[role=status]");
    const request = new XMLHttpRequest();
    request.upload.addEventListener("progress", (sent) => {
      if (!sent.lengthComputable) return;
      bar.max = sent.total;
      bar.value = sent.loaded;
      text.textContent = sent.loaded < sent.total ? `${Math.floor(100 * sent.loaded / sent.total)}% sent` : "Storing the last lines";
    });
    request.addEventListener("load", () => show(request, form));
    request.addEventListener("error", () => {
      button.disabled = false;
      text.textContent = "The connection was lost. Lines that arrived are stored. Send the list again: that does no harm.";
    });
    request.open("POST", form.action);
    request.setRequestHeader("Accept", "text/html");
    request.send(new FormData(form));
    button.disabled = true;
    line.hidden = false;
  });
})();
