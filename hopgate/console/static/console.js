// What a page does by itself: clocks tick, the title counts, j and k walk through cards. Everything else is the server's.
"use strict";
(() => {
  const words = (seconds) => {
    const left = Math.max(0, Math.floor(seconds));
    if (left >= 7200) return `${Math.round(left / 3600)} h`;
    return `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
  };

  // the server's clock rules: each card says what time it was there when it was made
  const ends = new WeakMap();
  const tick = () => {
    for (const clock of document.querySelectorAll(".countdown[data-deadline]")) {
      const key = clock.dataset.deadline + clock.dataset.now;
      let known = ends.get(clock);
      if (!known || known.key !== key) {
        known = { key, at: performance.now() + (Number(clock.dataset.deadline) - Number(clock.dataset.now)) * 1000 };
        ends.set(clock, known);
      }
      const left = (known.at - performance.now()) / 1000;
      const text = clock.querySelector(".left");
      const said = left > 0 ? words(left) : "over";
      if (text.textContent !== said) text.textContent = said;
      clock.classList.toggle("soon", left < 60);
      const fuse = clock.parentElement.querySelector(".fuse");
      if (fuse) fuse.value = Math.max(0, left);
    }
  };

  const title = document.title;
  const count = () => {
    const waiting = document.getElementById("pending-count")?.dataset.count || "0";
    document.title = waiting === "0" ? title : `(${waiting}) ${title}`;
  };

  const walk = (step) => {
    const cards = [...document.querySelectorAll(".cards .card:not(.settled)")];
    if (!cards.length) return;
    const at = cards.findIndex((card) => card.classList.contains("current"));
    const next = cards[Math.min(cards.length - 1, Math.max(0, at + step))];
    cards.forEach((card) => card.classList.toggle("current", card === next));
    next.scrollIntoView({ block: "nearest" });
    (next.querySelector(".exact") || next).focus({ preventScroll: true });
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, [contenteditable]")) return;
    if (event.key === "j") walk(1);
    if (event.key === "k") walk(-1);
  });

  // hops: what a node is joined to stands out while it is pointed at or has the focus
  const light = (event) => {
    const graph = event.target.closest?.(".hops");
    if (!graph) return;
    const node = event.target.closest("[data-l], [data-r]");
    const lit = (line) => node && ["l", "r"].every((side) => node.dataset[side] === undefined || node.dataset[side] === line.dataset[side]);
    const lines = [...graph.querySelectorAll(".hop")];
    const shown = lines.filter(lit);
    graph.classList.toggle("pointed", shown.length > 0 && (event.type === "mouseover" || event.type === "focusin"));
    lines.forEach((line) => line.classList.toggle("lit", shown.includes(line)));
    for (const dot of graph.querySelectorAll(".dots a")) {
      dot.classList.toggle("lit", shown.some((line) => dot.dataset.l === line.dataset.l || dot.dataset.r === line.dataset.r));
    }
  };
  for (const name of ["mouseover", "mouseout", "focusin", "focusout"]) document.addEventListener(name, light);

  document.addEventListener("DOMContentLoaded", () => {
    tick();
    count();
    setInterval(tick, 1000);
    new MutationObserver(() => { tick(); count(); }).observe(document.body, { childList: true, subtree: true });
    for (const select of document.querySelectorAll("[data-submit-on-change]")) {
      select.addEventListener("change", () => select.form.requestSubmit());
    }
  });
})();
