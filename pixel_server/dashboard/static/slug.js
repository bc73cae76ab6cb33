// In the form of a new campaign, the id follows the name until another one is typed. As pixel_server/slug.py.
(function () {
  "use strict";

  const name = document.getElementById("name"), id = document.getElementById("id");
  const made = () => name.value.normalize("NFKD").replace(/[\u0300-\u036f]/g, "")
    .toUpperCase().toLowerCase() // so that \u00df is ss
    .replace(/[^a-z0-9]+/g, "-").replace(/^-/, "").slice(0, 63).replace(/-$/, "");
  let proposed = made();
  name.addEventListener("input", () => {
    const follows = id.value === "" || id.value === proposed;
    proposed = made();
    if (follows) id.value = proposed;
  });
})();
