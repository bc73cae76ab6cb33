// Adds a button below each text that can be copied.
for (const area of document.querySelectorAll("textarea[data-copy]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  const label = area.labels[0];
  if (label) button.setAttribute("aria-label", `Copy: ${label.textContent}`);
  const status = document.createElement("span");
  status.className = "copy-status";
  status.setAttribute("role", "status");
  const row = document.createElement("p");
  row.className = "copying";
  row.append(status, button);
  area.after(row);
  let timer = 0;
  button.addEventListener("click", async () => {
    clearTimeout(timer);
    status.textContent = "";
    try {
      await navigator.clipboard.writeText(area.value);
      status.textContent = "Copied";
    } catch {
      // Browsers refuse access to the clipboard unless the page came over HTTPS.
      area.focus();
      area.select();
      status.textContent = "Selected: press Ctrl+C to copy";
    }
    timer = setTimeout(() => { status.textContent = ""; }, 5000);
  });
}
