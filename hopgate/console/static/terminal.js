// Plays recorded terminals. The player brings its terminal in WebAssembly, which this page alone may run.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  for (const place of document.querySelectorAll(".player[data-cast]")) {
    AsciinemaPlayer.create(place.dataset.cast, place, { idleTimeLimit: 2, fit: "width", preload: true, controls: true, poster: "npt:0:04" });
  }
});
