// The theme: the system's, until the reader chooses another.
"use strict";
{
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const isDark = () =>
    root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const label = () => {
    button.textContent = isDark() ? "Light theme" : "Dark theme";
  };
  const stored = (write) => {
    try {
      return write ? localStorage.setItem("mmcse-theme", write) : localStorage.getItem("mmcse-theme");
    } catch {
      return null; // a browser may refuse storage to a local file
    }
  };
  const choice = stored();
  if (choice === "dark" || choice === "light") root.dataset.theme = choice;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    stored(root.dataset.theme);
    label();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  label();
  button.hidden = false;
}
