// Runs before the page is painted, so that a chosen theme does not flash. Not a module: those run too late.
(() => {
  const kept = localStorage.getItem("clipsearch.theme");
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
})();
