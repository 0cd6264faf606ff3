/* Players of the cards. Gradio replaces the cards whenever a list changes, so a surface belongs to a key, not to an
   element, and the cards of its key are looked up when it moves. */
{
  const surfaces = new Map();

  function surfaceOf(card) {
    const { key, sound, seconds } = card.dataset;
    const known = surfaces.get(key);
    if (known && known.source === sound) return known;
    const here = () => [...document.querySelectorAll(".its-card")].filter((each) => each.dataset.key === key);
    const surface = {
      source: sound, seconds: Number(seconds), at: 0, move: new WeakMap(),
      show(time) {
        for (const each of here()) {
          surface.move.get(each)?.(time);
          each.querySelector(".clock").textContent = `${time.toFixed(1)} / ${surface.seconds.toFixed(1)} s`;
          if (time > 0) each.classList.add("begun");
        }
      },
      playing(is) {
        for (const each of here()) {
          each.classList.toggle("playing", is);
          each.classList.add("begun");
          each.querySelector(".play").setAttribute("aria-label", `${is ? "Pause" : "Play"}: ${each.ariaLabel}`);
        }
      },
      failed(message) { for (const each of here()) each.querySelector(".clock").textContent = message; },
    };
    surfaces.set(key, surface);
    return surface;
  }

  function connect(card) {
    card.dataset.bound = "true";
    const picture = card.querySelector(".picture");
    if (!picture) return;
    const surface = surfaceOf(card);
    surface.move.set(card, playable(picture, surface));
    surface.show(surface.at);
    if (player.surface === surface && player.playing) surface.playing(true);
    card.querySelector(".play").setAttribute("aria-label", `Play: ${card.ariaLabel}`);
    card.querySelector(".play").addEventListener("click", () => player.toggle(surface));
  }

  const connectAll = () => document.querySelectorAll(".its-card:not([data-bound])").forEach(connect);
  new MutationObserver(connectAll).observe(document.documentElement, { childList: true, subtree: true });
  connectAll();
}
