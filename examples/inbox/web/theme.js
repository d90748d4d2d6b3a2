// Light or dark: the system's choice until somebody presses the button; the press is remembered in this browser.
// A classic script in the head, so that the page is never painted in the wrong colours first.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    try { return localStorage.getItem("theme"); } catch { return null; } // storage may be forbidden
  };
  let chosen = stored();

  const show = () => {
    const dark = chosen ? chosen === "dark" : system.matches;
    if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
    root.dataset.shown = dark ? "dark" : "light";
    document.getElementById("theme")?.setAttribute("aria-pressed", String(dark));
  };

  show();
  system.addEventListener("change", show);
  addEventListener("storage", (e) => { if (e.key === "theme") { chosen = e.newValue; show(); } });
  addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("theme").addEventListener("click", () => {
      chosen = root.dataset.shown === "dark" ? "light" : "dark";
      try { localStorage.setItem("theme", chosen); } catch { /* then for this visit only */ }
      show();
    });
  });
})();
