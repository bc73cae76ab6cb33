// Beside each text to take away, a button that copies it, and says so.
for (const area of document.querySelectorAll("textarea[data-copy]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  const label = area.labels[0];
  if (label) button.setAttribute("aria-label", `Copy: ${label.textContent}`);
  const said = document.createElement("span");
  said.className = "said";
  said.setAttribute("role", "status");
  const row = document.createElement("p");
  row.className = "copying";
  row.append(said, button);
  area.after(row);
  let later = 0;
  button.addEventListener("click", async () => {
    clearTimeout(later);
    said.textContent = "";
    try {
      await navigator.clipboard.writeText(area.value);
      said.textContent = "Copied";
    } catch {
      // Without HTTPS browsers lend no clipboard.
      area.focus();
      area.select();
      said.textContent = "Selected: press Ctrl+C to copy";
    }
    later = setTimeout(() => { said.textContent = ""; }, 5000);
  });
}
