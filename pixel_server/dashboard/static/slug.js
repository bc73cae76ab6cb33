// Proposes an id while the name of a new campaign is typed, until another id is typed. Same rule as slug.py.
(function () {
  "use strict";

  const name = document.getElementById("name"), id = document.getElementById("id");
  const proposal = () => name.value.normalize("NFKD").replace(/[\u0300-\u036f]/g, "")
    .toUpperCase().toLowerCase() // turns \u00df into ss
    .replace(/[^a-z0-9]+/g, "-").replace(/^-/, "").slice(0, 63).replace(/-$/, "");
  let proposed = proposal();
  name.addEventListener("input", () => {
    const follows = id.value === "" || id.value === proposed;
    proposed = proposal();
    if (follows) id.value = proposed;
  });
})();
