// Lets the browser insist on an answer to the question who opened, unless the campaign is a web site or has a preset.
(function () {
  "use strict";

  const form = document.querySelector("form.both"), mail = document.getElementById("kind-email");
  const preset = document.getElementById("preset"), answers = [...form.querySelectorAll('[name="mode"]')];
  const first = answers.find((answer) => !answer.disabled);

  // Not `required`: the browser would also complain of the answers behind “More”, where it cannot show its message.
  function check() {
    const isOpen = mail.checked && !preset.value && !answers.some((answer) => answer.checked);
    first.setCustomValidity(isOpen ? "Choose an answer." : "");
  }

  form.addEventListener("change", check);
  window.addEventListener("pageshow", check); // the browser may have restored what was chosen
})();
